"""Images of one's own, in folders and in .npz files, stay bytes; what is no set of images is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.config.data import ImageData
from pipeline.data.arrays import Arrays, load
from pipeline.prepare import prepare
from pipeline.system.errors import LabError

GREY = np.random.default_rng(0).integers(0, 256, (12, 4, 3), dtype=np.uint8)
LABELS = np.array(["cat", "dog"] * 6)


def image_data(path: str, **settings: Any) -> ImageData:
    given = {"kind": "images", "name": "pictures", "path": path, "validation_share": 0}
    return ImageData.model_validate({**given, **settings})


def prepared(project: Path, path: str, **settings: Any) -> Arrays:
    data = image_data(path, **settings)
    prepare(data, project)
    return load(data, "float32", project)


def in_folders(folder: Path, images: NDArray[np.uint8], suffix: str = "png") -> None:
    for number, (image, label) in enumerate(zip(images, LABELS, strict=True)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / label / f"{number:02}.{suffix}")


def refusal(project: Path, path: str, **settings: Any) -> str:
    with pytest.raises(LabError) as caught:
        prepare(image_data(path, **settings), project)
    assert not (project / "data" / "prepared").exists()
    return str(caught.value)


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_arrays_stay_bytes_and_keep_their_shape(tmp_path: Path, channels: int | None) -> None:
    images = GREY
    if channels is not None:
        images = np.stack([GREY] * channels, axis=-1)
    np.savez_compressed(tmp_path / "own.npz", x=images, y=LABELS)
    arrays = prepared(tmp_path, "own.npz", test_share=0)
    assert arrays.train_inputs.dtype == np.uint8
    assert np.array_equal(arrays.train_inputs, images.reshape(12, -1))
    assert arrays.row_shape == (4, 3, channels or 1)
    assert arrays.train_targets.tolist() == [0, 1] * 6
    assert arrays.description is not None
    assert arrays.description.classes == ("cat", "dog")


def test_whole_numbers_of_another_type_become_bytes(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", pixels=GREY.astype(np.float64), kind=np.arange(12) % 2)
    arrays = prepared(tmp_path, "own.npz", test_share=0, inputs="pixels", target="kind", task="binary")
    assert np.array_equal(arrays.train_inputs, GREY.reshape(12, -1))
    assert arrays.train_targets.tolist() == [[0.0], [1.0]] * 6


def test_folders_are_classes(tmp_path: Path) -> None:
    in_folders(tmp_path / "pictures", GREY)
    (tmp_path / "pictures" / "README.txt").write_text("none of them")
    (tmp_path / "pictures" / "cat" / "older.png").mkdir()
    arrays = prepared(tmp_path, "pictures", test_share=0)
    # By class, and in it by name.
    assert np.array_equal(arrays.train_inputs, np.concatenate([GREY[::2], GREY[1::2]]).reshape(12, -1))
    assert arrays.train_targets.tolist() == [0] * 6 + [1] * 6
    assert arrays.row_shape == (4, 3, 1)


def test_one_image_in_colour_makes_all_of_them_so(tmp_path: Path) -> None:
    in_folders(tmp_path / "pictures", GREY)
    colours = np.zeros((4, 3, 3), np.uint8)
    colours[0, 0] = (255, 0, 7)
    Image.fromarray(colours).save(tmp_path / "pictures" / "cat" / "00.png")
    arrays = prepared(tmp_path, "pictures", test_share=0)
    assert arrays.row_shape == (4, 3, 3)
    assert arrays.train_inputs[0, :3].tolist() == [255, 0, 7]
    assert np.array_equal(arrays.train_inputs[1].reshape(4, 3, 3), np.stack([GREY[2]] * 3, axis=-1))


def test_jpeg_is_read(tmp_path: Path) -> None:
    in_folders(tmp_path / "pictures", np.full((12, 16, 16), 200, np.uint8), "jpg")
    arrays = prepared(tmp_path, "pictures", test_share=0)
    assert np.abs(arrays.train_inputs.astype(int) - 200).max() <= 2


def test_test_images_of_their_own(tmp_path: Path) -> None:
    in_folders(tmp_path / "pictures", GREY)
    in_folders(tmp_path / "others", 255 - GREY)
    arrays = prepared(tmp_path, "pictures", test_path="others")
    assert len(arrays.train_inputs) == 12
    assert arrays.test_inputs is not None
    assert np.array_equal(arrays.test_inputs, 255 - arrays.train_inputs)


def test_each_class_has_test_images(tmp_path: Path) -> None:
    in_folders(tmp_path / "pictures", GREY)
    arrays = prepared(tmp_path, "pictures", test_share=0.5)
    assert sorted(arrays.train_targets.tolist()) == [0] * 3 + [1] * 3
    assert arrays.test_targets is not None
    assert sorted(arrays.test_targets.tolist()) == [0] * 3 + [1] * 3


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": GREY}, ["no array y", "target:"]),
        ({"images": GREY, "y": LABELS}, ["no array x", "images, y"]),
        ({"x": GREY, "y": LABELS[:5]}, ["not images with labels", "(12, 4, 3)", "(5,)"]),
        ({"x": GREY.reshape(12, -1), "y": LABELS}, ["not images with labels", "(12, 12)"]),
        ({"x": GREY / 255, "y": LABELS}, ["other values than grey values", "float64 from 0.0", "astype('uint8')"]),
        ({"x": GREY.astype(int) - 1, "y": LABELS}, ["other values than grey values", "int64 from -1"]),
        ({"x": GREY, "y": np.array(["cat"] * 12)}, ["only one class"]),
        ({"x": GREY, "y": np.array(["cat"] * 11 + ["dog"])}, ["occurs once", "'dog'"]),
        ({"x": GREY, "y": np.array([0.0, np.nan] * 6)}, ["row 2, array y", "missing value"]),
        ({"x": GREY, "y": LABELS.astype(object)}, ["pickled objects"]),
    ],
)
def test_arrays_that_are_no_images(tmp_path: Path, arrays: dict[str, Any], words: list[str]) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    message = refusal(tmp_path, "own.npz")
    assert [word for word in words if word not in message] == [], message


def test_images_of_different_sizes(tmp_path: Path) -> None:
    in_folders(tmp_path / "pictures", GREY)
    Image.fromarray(GREY[0][:2]).save(tmp_path / "pictures" / "dog" / "05.png")
    message = refusal(tmp_path, "pictures")
    assert "dog/05.png: an image of another size" in message
    assert "3 x 2 pixels" in message
    assert "3 x 4 pixels" in message


def test_test_images_of_another_size(tmp_path: Path) -> None:
    in_folders(tmp_path / "pictures", GREY)
    in_folders(tmp_path / "others", GREY[:, :2])
    assert "others: images of another size" in refusal(tmp_path, "pictures", test_path="others")


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image(tmp_path: Path, content: bytes) -> None:
    in_folders(tmp_path / "pictures", GREY)
    (tmp_path / "pictures" / "cat" / "04.png").write_bytes(content)
    assert "cat/04.png is not an image" in refusal(tmp_path, "pictures")


def test_an_image_that_is_cut_short(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (12, 64, 64), dtype=np.uint8)
    in_folders(tmp_path / "pictures", noise)
    file = tmp_path / "pictures" / "cat" / "04.png"
    file.write_bytes(file.read_bytes()[:2000])
    assert "cat/04.png is not an image" in refusal(tmp_path, "pictures")


def test_an_image_of_16_bits(tmp_path: Path) -> None:
    in_folders(tmp_path / "pictures", GREY)
    Image.fromarray(GREY[0].astype(np.uint16) * 200).save(tmp_path / "pictures" / "cat" / "00.png")
    assert "more than 8 bits" in refusal(tmp_path, "pictures")


def test_a_folder_without_classes(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.fromarray(GREY[0]).save(tmp_path / "pictures" / "00.png")
    message = refusal(tmp_path, "pictures")
    assert "has no images" in message
    assert "the entries 00.png" in message


def test_a_missing_folder_and_another_kind_of_file(tmp_path: Path) -> None:
    assert "pictures does not exist" in refusal(tmp_path, "pictures")
    (tmp_path / "own.csv").write_text("a,b\n")
    assert "neither a folder nor an .npz" in refusal(tmp_path, "own.csv")
