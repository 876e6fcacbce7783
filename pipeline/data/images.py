"""Images of one's own: folders CLASS/*.png or *.jpg, or arrays in an .npz, kept as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config.data import ImageData
from pipeline.data.classes import check_classes, check_learned, in_order, labels_of, targets_of
from pipeline.data.description import DataDescription
from pipeline.data.files.arrays import grey_values, read_npz
from pipeline.data.files.source import check_memory
from pipeline.data.own_file import located
from pipeline.data.prepared import Prepared
from pipeline.data.raw_files import images_in, joint_sha256, raw_file
from pipeline.data.split import Sides, draw, held_back
from pipeline.system.errors import LabError
from pipeline.system.files import readable
from pipeline.system.wording import some

MOST_NAMED = 10
EXPECTED = "an .npz with images and labels, or a folder with a folder of .png or .jpg for each class"


@dataclass(frozen=True)
class Labelled:
    """Images, uint8 (rows, height, width, channels), with a label for each, and the files that they are from."""

    pixels: NDArray[np.uint8]
    labels: list[str]
    files: Sequence[Path]


def prepare_images(data: ImageData, project: Path) -> Prepared:
    """Make the arrays of images.

    Inputs are grey values, uint8 (rows, height * width * channels). Targets are int64 (rows,) for classes, and float64
    (rows, 1) of 0 and 1 for a binary task.

    Args:
        data: the images, and how they are split.
        project: the folder that relative paths start in.

    Raises:
        LabError: images cannot be read, have different sizes, or nothing can be learned about their classes.
    """
    train = _labelled(located(data.path, "data.path", project), data)
    files = list(train.files)
    if data.test_path is None:
        check_classes(data.path, data.task, train.labels)
        sides = draw(data, len(train.labels), classes=train.labels)
        test = _part(train, sides.test)
    else:
        test = _labelled(located(data.test_path, "data.test_path", project), data)
        files += test.files
        check_classes(data.path, data.task, train.labels + test.labels)
        every = np.arange(len(train.labels))
        sides = held_back(data, Sides(every, every[:0], every[:0]), classes=train.labels)
    validation = _part(train, sides.validation)
    train = _part(train, sides.train)
    if test.pixels.shape[1:] != train.pixels.shape[1:] and len(test.labels):
        raise LabError(
            f"{data.test_path}: images of another size than those of {data.path}.",
            expected=str(train.pixels.shape[1:]),
            received=str(test.pixels.shape[1:]),
            fix="scale all images to one size",
        )
    check_learned(data.path, train.labels, test.labels, data.test_path)
    raw = [raw_file(path, project) for path in files]
    classes = in_order(train.labels)
    arrays: dict[str, Any] = {}
    for split, part in (("train", train), ("validation", validation), ("test", test)):
        if part.labels:
            arrays[f"{split}_inputs"] = part.pixels.reshape(len(part.pixels), -1)
            arrays[f"{split}_targets"] = targets_of(part.labels, classes, data.task)
    description = DataDescription(
        name=data.name,
        task=data.task,
        source=data.path,
        sha256=joint_sha256(raw),
        train_rows=len(train.labels),
        validation_rows=len(validation.labels),
        test_rows=len(test.labels),
        row_shape=train.pixels.shape[1:],
        targets=(data.target,),
        classes=classes,
    )
    return Prepared(arrays, description, raw)


def _part(images: Labelled, positions: NDArray[np.intp]) -> Labelled:
    return Labelled(images.pixels[positions], [images.labels[position] for position in positions], images.files)


def _labelled(path: Path, data: ImageData) -> Labelled:
    with readable(str(path), expected=EXPECTED, fix="correct data.path"):
        if path.is_dir():
            return _from_folder(path)
        if path.suffix == ".npz":
            return _from_npz(path, data)
    raise LabError(f"{path} is neither a folder nor an .npz.", expected=EXPECTED, received=path.name)


def _from_npz(path: Path, data: ImageData) -> Labelled:
    arrays = read_npz(path)
    for key, name in (("inputs", data.inputs), ("target", data.target)):
        if name not in arrays:
            raise LabError(
                f"{path} has no array {name}.",
                expected=f"the array that {key}: names",
                received=f"the arrays {', '.join(arrays) or '(none)'}",
                fix=f"correct {key}:",
            )
    images = arrays[data.inputs]
    labels = arrays[data.target]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if images.ndim not in (3, 4) or labels.shape != images.shape[:1] or images.size == 0:
        raise LabError(
            f"The arrays in {path} are not images with labels.",
            expected=f"{data.inputs} (rows, height, width[, channels]) and {data.target} (rows,)",
            received=f"{data.inputs} {images.shape} and {data.target} {labels.shape}",
            fix="reshape them, or name others in inputs: and target:",
        )
    pixels = grey_values(images)
    if pixels is None:
        raise LabError(
            f"{path}: the array {data.inputs} has other values than grey values.",
            expected="whole numbers from 0 to 255",
            received=f"{images.dtype} from {images.min()} to {images.max()}",
            fix="convert it, for instance (255 * x).round().astype('uint8') for numbers from 0 to 1",
        )
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        row = int(np.flatnonzero(~np.isfinite(labels))[0]) + 1
        raise LabError(
            f"{path}, row {row:,}, array {data.target}: a missing value in the labels.",
            expected="a label for each image",
            received=str(labels[row - 1]),
            fix="complete it, or leave the image out",
        )
    return Labelled(pixels, labels_of(labels), [path])


def _from_folder(folder: Path) -> Labelled:
    """Read the images below a folder with a folder for each class, in the order of their names."""
    files = images_in(folder)
    if not files:
        raise LabError(
            f"{folder} has no images.",
            expected=EXPECTED,
            received=f"the entries {some(sorted(path.name for path in folder.iterdir()), MOST_NAMED) or '(none)'}",
            fix="put the images of each class into a folder named after it",
        )
    size, colour = _size_and_colour(files)
    channels = 1
    if colour:
        channels = 3
    width, height = size
    check_memory(folder, len(files), height * width * channels // 8)
    pixels = np.empty((len(files), height, width, channels), np.uint8)
    for image, file in zip(pixels, files, strict=True):
        image[:] = _pixels(file, colour).reshape(image.shape)
    return Labelled(pixels, [file.parent.name for file in files], files)


def _size_and_colour(files: Sequence[Path]) -> tuple[tuple[int, int], bool]:
    """Return (width, height) of all images in pixels, and whether one of them has colours.

    Raises:
        LabError: a file is not an image, or one has another size than the first.
    """
    first: tuple[int, int] | None = None
    colour = False
    for file in files:
        with _opened(file) as image:
            first = first or image.size
            colour = colour or image.mode not in ("L", "1", "LA")
            if image.size != first:
                raise LabError(
                    f"{file}: an image of another size than the others.",
                    expected=f"{first[0]} x {first[1]} pixels, as {files[0]}",
                    received=f"{image.size[0]} x {image.size[1]} pixels",
                    fix="scale all images to one size",
                )
            if image.mode.startswith(("I", "F")):
                raise LabError(
                    f"{file}: an image of more than 8 bits for each pixel.",
                    expected="grey values or colours from 0 to 255",
                    received=f"the mode {image.mode}",
                    fix="convert it to 8 bits",
                )
    return first or (0, 0), colour


def _pixels(file: Path, colour: bool) -> NDArray[np.uint8]:
    mode = "L"
    if colour:
        mode = "RGB"
    with _opened(file) as image:
        try:
            return np.asarray(image.convert(mode))
        except (OSError, SyntaxError, ValueError) as error:
            raise _damaged(file, error) from None


def _opened(file: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file)
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> LabError:
    return LabError(
        f"{file} is not an image that can be read.",
        expected="a complete .png or .jpg",
        received=str(error),
        fix="write the image again, or delete it",
    )
