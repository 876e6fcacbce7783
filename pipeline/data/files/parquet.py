"""Read Parquet files: https://parquet.apache.org/docs/file-format/."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.data.files.source import check_columns, check_memory, no_rows, unreadable
from pipeline.system.errors import LabError

EXPECTED = "a complete Parquet file"
# What pandas adds to a file for the index of a DataFrame.
INDEX = re.compile(r"__index_level_\d+__")


class ParquetFile:
    """A Parquet file, see `source.Source`.

    Raises:
        LabError: the file is damaged, has no rows, or has two columns of one name.
    """

    decimal: str | None = None

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        self.path = path
        self.groups: Mapping[str, tuple[str, ...]] = {}
        try:
            with path.open("rb") as stream:
                file = parquet.ParquetFile(stream)
                self._rows = file.metadata.num_rows
                self._schema = file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise _refused(path, error) from None
        self.names = tuple(name for name in self._schema.names if not INDEX.fullmatch(name))
        check_columns(path, self.names)
        if not self._rows:
            raise no_rows(path, "0 rows")

    def read(self, columns: Sequence[str], labels: Collection[str], text: Collection[str] = ()) -> Any:
        """See `source.Source.read`; columns have types, so `labels` and `text` change nothing."""
        import pyarrow as pa
        from pyarrow import parquet

        for name in columns:
            self._check_type(name, self._schema.field(name).type)
        check_memory(self.path, self._rows, len(columns))
        try:
            with self.path.open("rb") as stream:
                table = parquet.ParquetFile(stream).read(columns=list(columns))
        except (pa.ArrowException, OSError) as error:
            raise _refused(self.path, error) from None
        frame = table.to_pandas(split_blocks=True, self_destruct=True, ignore_metadata=True)
        return frame[list(columns)]

    def row(self, index: int) -> int:
        """See `source.Source.row`."""
        return index + 1

    def _check_type(self, name: str, kind: Any) -> None:
        import pyarrow as pa

        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            raise LabError(
                f"{self.path}, column {name}: values that are neither numbers nor text.",
                expected="numbers, text, or true and false",
                received=str(kind),
                fix="leave the column out with exclude:",
            )


def _refused(path: Path, error: Exception) -> Exception:
    """Return the message about a damaged file, or the error itself if it is one of the disk."""
    # Arrow raises an OSError without a number for content that it cannot decode.
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return unreadable(path, EXPECTED, error)
