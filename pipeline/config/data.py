"""The `data` section of the config for a table or images; a curve is in `curve.py`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.fields import Number, PositiveInt, Section

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# The roles of the four files of a data set.
IDX_ROLES = ("train_images", "train_labels", "test_images", "test_labels")


class TableData(Section):
    """A data set that is small enough to be part of its conf/data file."""

    kind: Literal["table"]
    name: str
    inputs: tuple[tuple[Number, ...], ...]
    targets: tuple[tuple[Number, ...], ...]

    @model_validator(mode="after")
    def rows_match(self) -> TableData:
        """Check that inputs and targets have the same number of rows, and each of them rows of one length."""
        if len(self.inputs) != len(self.targets) or not self.inputs:
            raise ValueError(
                "expected the same number of rows of inputs and of targets, at least one, "
                f"received {len(self.inputs)} rows of inputs and {len(self.targets)} rows of targets"
            )
        if len({len(row) for row in self.inputs}) > 1 or len({len(row) for row in self.targets}) > 1:
            raise ValueError("expected rows of the same length, received rows of different lengths")
        if not self.inputs[0] or not self.targets[0]:
            raise ValueError("expected numbers in each row, received rows without numbers")
        return self


class IdxFile(Section):
    """One unpacked IDX file: its name on disk and its checksum."""

    name: str
    sha256: Sha256


class Source(Section):
    """A source of the data: an .npz file at a URL, gzipped IDX files below a URL, or a package of npm or Debian.

    `members` maps each role to the name of the array (npz), or to the path inside the package or relative to the URL.
    """

    kind: Literal["npz", "gzip_files", "npm", "debian"]
    location: str
    sha256: Sha256 | None = None
    members: dict[str, str]

    @model_validator(mode="after")
    def names_each_role(self) -> Source:
        """Check that `members` has each role, and no other key."""
        if set(self.members) != set(IDX_ROLES):
            raise ValueError(f"members must name {', '.join(IDX_ROLES)}; received {', '.join(sorted(self.members))}")
        return self


class IdxData(Section):
    """Images and labels in the IDX format of MNIST."""

    kind: Literal["idx"]
    name: str
    classes: PositiveInt
    local_dir: str | None
    files: dict[str, IdxFile]
    sources: tuple[Source, ...]

    @model_validator(mode="after")
    def names_each_role(self) -> IdxData:
        """Check that `files` has each role, and no other key."""
        if set(self.files) != set(IDX_ROLES):
            raise ValueError(f"files must name {', '.join(IDX_ROLES)}; received {', '.join(sorted(self.files))}")
        return self
