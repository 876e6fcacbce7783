"""Each split of one's own data has a folder with its own rows, and with what was learned from its own training rows."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.data import FileData
from pipeline.data.arrays import load
from pipeline.data.prepared_folder import PREPARED
from pipeline.prepare import prepare
from pipeline.system.errors import LabError
from tests.support.own_data import file_data

ROWS = "a,y\n" + "".join(f"{row},{row * row}\n" for row in range(40))


@pytest.fixture
def data(tmp_path: Path) -> FileData:
    """A file of 40 rows, of which 8 are test rows and 8 validation rows, last written a minute ago."""
    file = tmp_path / "own.csv"
    file.write_text(ROWS)
    os.utime(file, (time.time() - 60,) * 2)
    return file_data("own.csv", validation_share=0.25)


def folders(project: Path) -> list[str]:
    return sorted(folder.name for folder in (project / PREPARED).iterdir())


def refusal(project: Path, data: FileData) -> str:
    with pytest.raises(LabError) as caught:
        load(data, "float64", project)
    return str(caught.value)


def test_each_split_has_its_own_rows_and_scales(tmp_path: Path, data: FileData) -> None:
    prepare(data, tmp_path)
    alone = load(data, "float64", tmp_path)
    prepare(data, tmp_path, 3)
    assert folders(tmp_path) == ["own", "own@split-2", "own@split-3"]
    splits = [load(data.further_split(number), "float64", tmp_path) for number in range(3)]
    assert splits[0].checksums == alone.checksums
    assert len({str(split.checksums) for split in splits}) == 3
    tested = set()
    for split in splits:
        assert split.description is not None
        assert split.validation_targets is not None
        assert split.test_targets is not None
        [column] = split.description.columns
        raw = np.sqrt(split.train_targets[:, 0])
        assert [column.mean, column.deviation] == pytest.approx([raw.mean(), raw.std()])
        assert len({*split.train_targets[:, 0], *split.validation_targets[:, 0], *split.test_targets[:, 0]}) == 40
        tested.add(tuple(split.test_targets[:, 0]))
    assert len(tested) == 3


def test_a_split_that_is_prepared_alone_has_one_place(tmp_path: Path, data: FileData) -> None:
    """Rows that were prepared earlier do not stay in its place."""
    prepare(data, tmp_path, 3)
    (tmp_path / "own.csv").write_text(ROWS + "40,1600\n")
    second = data.further_split(1)
    prepare(second, tmp_path)
    assert folders(tmp_path) == ["own", "own@split-3"]
    assert len(load(second, "float64", tmp_path).train_inputs) == 24


def test_a_split_that_is_not_prepared_is_told_with_the_command(tmp_path: Path, data: FileData) -> None:
    second = data.further_split(1)
    prepare(data, tmp_path)
    message = refusal(tmp_path, second)
    assert "expected: split_seed: 2" in message
    assert "python -m pipeline.prepare data=own, with the same data keys, repeats and repeats_split as here" in message
    prepare(data, tmp_path, 2)
    load(second, "float64", tmp_path)
    assert "repeats and repeats_split as here" in refusal(tmp_path, second.model_copy(update={"test_share": 0.3}))
    shutil.rmtree(tmp_path / PREPARED)
    assert "is not prepared yet" in refusal(tmp_path, second)


def test_a_further_split_of_a_changed_or_damaged_file_is_prepared_again_with_all(
    tmp_path: Path, data: FileData
) -> None:
    command = "python -m pipeline.prepare data=own repeats=N repeats_split=true, with the repeats of this command as N"
    prepare(data, tmp_path, 2)
    (tmp_path / PREPARED / "own@split-2" / "train_inputs.npy").unlink()
    assert command in refusal(tmp_path, data.further_split(1))
    prepare(data, tmp_path, 2)
    (tmp_path / "own.csv").write_text(ROWS + "40,1600\n")
    # The configured split alone is prepared without them.
    assert "repeats=" not in refusal(tmp_path, data)
    assert command in refusal(tmp_path, data.further_split(1))


def test_a_file_that_marks_all_rows_has_no_further_split(tmp_path: Path) -> None:
    sides = ("train", "train", "validation", "test")
    (tmp_path / "own.csv").write_text(
        "a,y,side\n" + "".join(f"{row},{row * row},{sides[row % 4]}\n" for row in range(40))
    )
    marked = file_data("own.csv", split_column="side", validation_share=0.25)
    with pytest.raises(LabError, match="All splits of own are the same"):
        prepare(marked, tmp_path, 2)
    assert folders(tmp_path) == ["own"]
    load(marked, "float64", tmp_path)
