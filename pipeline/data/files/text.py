"""Read CSV and TSV files, plain or gzipped: what separates their columns is found, and wrong rows are named.

https://www.rfc-editor.org/rfc/rfc4180 describes the format. Apache Arrow reads it; where it refuses a file, the row
that it refuses is looked for.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pipeline.data.files.decimals import decimal_mark
from pipeline.data.files.source import check_columns, check_memory, no_rows, unreadable
from pipeline.system import limits
from pipeline.system.errors import LabError

DELIMITERS = (",", ";", "\t", "|")
# How many lines, and of how many bytes at most, are looked at to find what separates columns.
SAMPLE_LINES = 200
SAMPLE_BYTES = 2**20
BLOCK = 4 * 2**20
# Arrow refuses a row that is longer than two of its blocks.
ARROW_BLOCK = 8 * 2**20
# Python's limit for one value, 128 KiB, is below that. No value of the first lines, 1 MiB, reaches this one.
csv.field_size_limit(2 * ARROW_BLOCK)
EXPECTED = "rows of text with one delimiter, in UTF-8"


@dataclass(frozen=True)
class Scan:
    """What a file of text has: lines, bytes, and whether it quotes."""

    lines: int
    size: int
    quotes: bool


class TextFile:
    """A CSV or TSV file, see `source.Source`.

    Args:
        path: the file.
        delimiter: what separates columns; None: found.
        decimal: the decimal mark; None: found.

    Raises:
        LabError: the file is empty, is not text in UTF-8, or its row of names is not usable.
    """

    def __init__(self, path: Path, delimiter: str | None, decimal: str | None) -> None:
        self.path = path
        self.groups: Mapping[str, tuple[str, ...]] = {}
        self._scan = _scan(path)
        start = self._start()
        # Arrow counts empty lines before the names.
        self._empty = start[: len(start) - len(start.lstrip())].count("\n")
        lines = [line for line in start.splitlines() if line.strip()][:SAMPLE_LINES]
        if not lines:
            raise no_rows(path, "an empty file")
        self._quote = '"'
        if not self._scan.quotes and lines[0].startswith("'"):
            self._quote = "'"
        self.delimiter = delimiter or _delimiter(lines, path, self._quote)
        sample = list(csv.reader(lines, delimiter=self.delimiter, quotechar=self._quote))
        self.names = tuple(name.strip() for name in sample[0])
        check_columns(path, self.names)
        self.decimal: str | None = decimal or decimal_mark(path, self.names, sample[1:], self.delimiter)

    def read(self, columns: Sequence[str], labels: Collection[str], text: Collection[str] = ()) -> Any:
        """See `source.Source.read`."""
        import pyarrow as pa

        check_memory(self.path, self._scan.lines - 1, len(columns), self._scan.size)
        # As text, whatever their values look like.
        fixed = dict.fromkeys((*labels, *text), pa.string())
        try:
            try:
                table = self._table(columns, {**self._first_types(columns), **fixed})
            except pa.ArrowInvalid:
                # A later value is of another type than the first ones.
                table = self._table(columns, fixed)
        except pa.ArrowException as error:
            raise self._ragged() or unreadable(self.path, EXPECTED, error) from None
        if table.num_rows == 0:
            raise no_rows(self.path, "only the row of names")
        # A class may be named NA.
        named = [name for name in columns if name in labels and table[name].null_count]
        if named:
            as_written = self._table(named, fixed, missing=("",))
            for name in named:
                table = table.set_column(table.column_names.index(name), name, as_written[name])
        frame = table.to_pandas(split_blocks=True, self_destruct=True)
        pa.default_memory_pool().release_unused()
        return frame

    def _table(self, columns: Sequence[str], types: Mapping[str, Any], missing: Sequence[str] | None = None) -> Any:
        """Return some columns as an Arrow table.

        Args:
            columns: their names.
            types: their types; those of the others are found.
            missing: the texts that are missing values; None: the empty text, NA, NaN, null and others of Arrow's list.
        """
        from pyarrow import csv as arrow

        options = self._options(columns, types)
        if missing is not None:
            options["convert_options"].null_values = list(missing)
        with _opened(self.path) as stream:
            return arrow.read_csv(stream, **options)

    def _first_types(self, columns: Sequence[str]) -> dict[str, Any]:
        """Return the types of columns by the first block: Arrow keeps all text in memory for a column without one."""
        import pyarrow as pa
        from pyarrow import csv as arrow

        with _opened(self.path) as stream, arrow.open_csv(stream, **self._options(columns, {})) as reader:
            found = {field.name: field.type for field in reader.schema if not pa.types.is_null(field.type)}
        # A later number may have a fraction.
        return {name: pa.float64() if pa.types.is_integer(kind) else kind for name, kind in found.items()}

    def _options(self, columns: Sequence[str], types: Mapping[str, Any]) -> dict[str, Any]:
        from pyarrow import csv as arrow

        return {
            "read_options": arrow.ReadOptions(
                column_names=list(self.names), skip_rows_after_names=self._empty + 1, block_size=ARROW_BLOCK
            ),
            "parse_options": arrow.ParseOptions(
                delimiter=self.delimiter, quote_char=self._quote, newlines_in_values=self._quoted
            ),
            "convert_options": arrow.ConvertOptions(
                column_types=dict(types),
                include_columns=list(columns),
                strings_can_be_null=True,
                decimal_point=self.decimal,
            ),
        }

    def row(self, index: int) -> int:
        """Return the line of a row, counted from 1; see `source.Source.row`."""
        for number, (line, _) in enumerate(self._records()):
            # The row of names is the record 0.
            if number == index + 1:
                return line
        return index + 2

    @property
    def _quoted(self) -> bool:
        return self._scan.quotes or self._quote == "'"

    def _start(self) -> str:
        """Return the start of the text, whose last line is perhaps only a part of one."""
        with _opened(self.path) as stream:
            return stream.read(SAMPLE_BYTES).decode("utf-8-sig", errors="ignore")

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each row that is not empty with the line that it begins in."""
        with _opened(self.path) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig", newline="") as text:
            for _ in range(self._empty):
                text.readline()
            reader = csv.reader(text, delimiter=self.delimiter, quotechar=self._quote)
            line = self._empty + 1
            for fields in reader:
                if fields:
                    yield line, fields
                line = self._empty + reader.line_num + 1

    def _ragged(self) -> LabError | None:
        """Return the message about the first row with more or fewer values than names; None if there is none."""
        try:
            for line, fields in self._records():
                if len(fields) != len(self.names):
                    return LabError(
                        f"{self.path}, row {line}: another number of columns than in the row of names.",
                        expected=f"{len(self.names)} values with the delimiter {self.delimiter!r}",
                        received=f"{len(fields)} values: {self.delimiter.join(fields)[:100]}",
                        fix="correct the row, put quotes around text with the delimiter in it, or give delimiter:",
                    )
        except csv.Error:
            pass
        return None


def _opened(path: Path) -> IO[bytes] | gzip.GzipFile:
    if path.name.endswith(".gz"):
        return gzip.open(path)
    return path.open("rb")


def _scan(path: Path) -> Scan:
    """Read a file once in blocks, and check that it is text in UTF-8.

    Raises:
        LabError: it is not, it is a damaged gzip file, or it has more text than this process may use memory.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    most = limits.memory()
    size = 0
    lines = 0
    quotes = False
    last = b""
    try:
        with _opened(path) as stream:
            while block := stream.read(BLOCK):
                try:
                    decoder.decode(block)
                except UnicodeDecodeError as error:
                    raise _wrong_encoding(path, lines, size, error) from None
                if b"\0" in block:
                    line = lines + block[: block.index(b"\0")].count(b"\n") + 1
                    raise _not_text(path, line, size + block.index(b"\0"), 0)
                size += len(block)
                lines += block.count(b"\n")
                quotes = quotes or b'"' in block
                last = block[-1:]
                # A small gzip file may unpack to more than the memory.
                if size > most:
                    check_memory(path, lines, 1, size * 2)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise _wrong_encoding(path, lines, size - len(error.object), error) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise unreadable(path, "a complete gzip file", error) from None
    return Scan(lines + (last not in (b"", b"\n")), size, quotes)


def _wrong_encoding(path: Path, lines: int, size: int, error: UnicodeDecodeError) -> LabError:
    """Return the message about a byte that is not UTF-8.

    Args:
        path: the file.
        lines: the lines before the block that could not be decoded.
        size: the bytes before it.
        error: says where in the block. Up to three bytes of an earlier block may be before it.
    """
    wrong = error.object[error.start]
    line = lines + error.object[: error.start].count(b"\n") + 1
    return _not_text(path, line, max(size + error.start, 0), wrong)


def _not_text(path: Path, line: int, position: int, byte: int) -> LabError:
    return LabError(
        f"{path}, row {line}: not text in UTF-8.",
        expected="UTF-8",
        received=f"the byte 0x{byte:02x} at position {position:,}",
        fix=f"convert it, for instance: iconv -f WINDOWS-1252 -t UTF-8 {path} > NEW_FILE",
    )


def _delimiter(lines: Sequence[str], path: Path, quote: str) -> str:
    """Return the delimiter that gives most lines as many columns as the first one, and more than one."""
    names = path.name.removesuffix(".gz")
    if names.endswith((".tsv", ".tab")):
        return "\t"

    def fit(delimiter: str) -> tuple[int, int]:
        counts = [len(fields) for fields in csv.reader(lines, delimiter=delimiter, quotechar=quote)]
        if counts[0] == 1:
            return (0, 0)
        return (sum(count == counts[0] for count in counts), counts[0])

    # The first of several that fit equally: a comma.
    return max(DELIMITERS, key=fit)
