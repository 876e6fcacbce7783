"""Download the data sets that Keras names to data/raw/NAME, with their checksums.

The addresses are those of `keras.datasets`, except for CIFAR: Keras downloads pickles, and this is the binary version
of the same images, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.config.data import LibraryData
from pipeline.data.raw.checks import RAW
from pipeline.data.raw.download import SourceError, download
from pipeline.system.errors import DamagedError, LabError
from pipeline.system.files import atomic_folder, explained, file_sha256, readable, scratch_beside

KERAS = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
TORONTO = "https://www.cs.toronto.edu/~kriz"
# The addresses of the files of each data set, and their SHA-256.
DOWNLOADS: Mapping[str, Mapping[str, str]] = {
    "keras:mnist": {
        f"{KERAS}/mnist.npz": "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1",
    },
    "keras:fashion_mnist": {
        f"{KERAS}/train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        f"{KERAS}/train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        f"{KERAS}/t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        f"{KERAS}/t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    },
    "keras:cifar10": {
        f"{TORONTO}/cifar-10-binary.tar.gz": "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    },
    "keras:cifar100": {
        f"{TORONTO}/cifar-100-binary.tar.gz": "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
    },
    "keras:california_housing": {
        f"{KERAS}/california_housing.npz": "1a2e3a52e0398de6463aebe6f4a8da34fb21fbb6b934cf88c3425e766f2a1a6f",
    },
    "keras:boston_housing": {
        f"{KERAS}/boston_housing.npz": "f553886a1f8d56431e820c5b82552d9d95cfcb96d1e678153f8839538947dff5",
    },
}


def fetch_library(data: LibraryData, project: Path) -> Path:
    """Download the files of a data set that Keras names to data/raw/NAME, unless they are there already.

    Raises:
        LabError: a file cannot be downloaded, or the folder cannot be written.
    """
    folder = project / RAW / data.name
    wanted = _wanted(data, folder)
    with explained(folder):
        if all(path.is_file() and file_sha256(path) == sha256 for _, path, sha256 in wanted):
            print(f"{data.name}: already in {folder}, checksums OK")
            return folder
        with scratch_beside(folder.with_name(f"{data.name}.download")) as scratch:
            for url, path, sha256 in wanted:
                print(f"fetching {data.name} from {url}", flush=True)
                try:
                    download(url, scratch / path.name, sha256)
                except SourceError as error:
                    raise _not_downloaded(data, url, path, error) from None
            with atomic_folder(folder) as new:
                for _, path, _ in wanted:
                    (scratch / path.name).rename(new / path.name)
    print(f"{data.name}: in {folder}, checksums OK")
    return folder


def downloaded_files(data: LibraryData, project: Path) -> list[Path]:
    """Return the downloaded files of a data set.

    Raises:
        LabError: they have not been fetched, or one of them has another checksum.
    """
    fix = f"python -m pipeline.fetch data={data.name}"
    paths = []
    for _, path, sha256 in _wanted(data, project / RAW / data.name):
        if not path.is_file():
            raise LabError(
                f"The data set {data.name} has not been fetched yet.",
                expected=f"{path.name} in {path.parent}",
                received="no such file",
                fix=fix,
            )
        with readable(str(path), expected=f"SHA-256 {sha256}", fix=fix):
            received = file_sha256(path)
        if received != sha256:
            raise DamagedError(
                f"{path} is not the file that {data.source} names.",
                expected=f"SHA-256 {sha256}",
                received=received,
                fix=fix,
            )
        paths.append(path)
    return paths


def _wanted(data: LibraryData, folder: Path) -> list[tuple[str, Path, str]]:
    """Return the address, the path and the checksum of each file of a data set."""
    return [(url, folder / url.rpartition("/")[2], sha256) for url, sha256 in DOWNLOADS[data.source].items()]


def _not_downloaded(data: LibraryData, url: str, path: Path, error: SourceError) -> LabError:
    return LabError(
        f"{data.name} could not be fetched: it is downloaded, which needs a network.",
        expected=f"{path.name} from {url}",
        received=str(error),
        fix=f"check the network, or put the file into {path.parent} yourself; sklearn:iris, digits, wine, "
        "breast_cancer and diabetes need no network",
    )
