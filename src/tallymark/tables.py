"""Tables as files, CSV or Parquet, written row by row: amounts exact, times in UTC, readable by their owner only."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from .core.batches import batched
from .core.clock import to_datetime
from .core.columns import Column, Kind
from .core.credits import format_micros
from .errors import ConfigError

ROWS = 10_000
Rows = Iterable[Sequence[Any]]


def write_table(form: str, file: BinaryIO, columns: Sequence[Column], rows: Rows) -> int:
    """Write rows as "csv" or "parquet"; how many there were. Raises ConfigError if what writes Parquet is missing."""
    return _write_parquet(file, columns, rows) if form == "parquet" else _write_csv(file, columns, rows)


def require_writer(form: str) -> None:
    """Raise ConfigError if a form cannot be written here, before anything is read."""
    if form == "parquet":
        _pyarrow()


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A private file that gets its name when it is whole, in the place of an older file.

    Raises ConfigError if it cannot be written, or if something that is no file has the name.
    """
    with writing(path):
        if os.path.lexists(path) and not path.is_file():
            raise ConfigError(f"{path} is there already, and is no file that could be replaced; name another.")
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with writing(path), private(partial) as file:
            yield file
        with writing(path):
            partial.replace(path)
    finally:
        # What could not be made, because its name is too long, cannot be taken away either.
        with contextlib.suppress(OSError):
            partial.unlink()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say of files that cannot be written which one it is, and what to do."""
    try:
        yield
    except OSError as problem:
        raise ConfigError(f"{path} cannot be written: {problem.strerror}; free space, or name another.") from problem


def private(path: Path) -> BinaryIO:
    """Open a new file for writing, readable by its owner only. Raises OSError."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_csv(file: BinaryIO, columns: Sequence[Column], rows: Rows) -> int:
    text = io.TextIOWrapper(file, "utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in columns])
    shown = [_AS_TEXT[column.kind] for column in columns]
    count = 0
    for row in rows:
        writer.writerow([None if value is None else show(value) for show, value in zip(shown, row, strict=True)])
        count += 1
    text.flush()
    text.detach()
    return count


def _write_parquet(file: BinaryIO, columns: Sequence[Column], rows: Rows) -> int:
    pyarrow = _pyarrow()
    types = [_arrow_type(pyarrow, column.kind) for column in columns]
    schema = pyarrow.schema([(column.name, kind) for column, kind in zip(columns, types, strict=True)])
    made = [_AS_ARROW.get(column.kind) for column in columns]
    count = 0
    with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in batched(rows, ROWS):
            by_column = zip(zip(*batch, strict=True), types, made, strict=True)
            arrays = [pyarrow.array(_made(values, make), kind) for values, kind, make in by_column]
            writer.write_batch(pyarrow.record_batch(arrays, schema=schema))
            count += len(batch)
    return count


def _pyarrow() -> Any:
    # An extra, and large: most who install tallymark never need it.
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as problem:
        raise ConfigError(
            "Parquet needs pyarrow: pip install 'tallymark[bulk]', or choose the format csv."
        ) from problem
    return pyarrow


def _arrow_type(pyarrow: Any, kind: Kind) -> Any:
    return {
        Kind.TEXT: pyarrow.string(),
        Kind.INTEGER: pyarrow.int64(),
        Kind.CREDITS: pyarrow.decimal128(19, 6),
        Kind.TIME: pyarrow.timestamp("us", tz="UTC"),
        Kind.AMOUNT: pyarrow.decimal128(38, 12),
    }[kind]


def _made(values: Sequence[Any], make: Callable[[Any], Any] | None) -> Sequence[Any]:
    return values if make is None else [None if value is None else make(value) for value in values]


def _credits(amount_micros: int) -> Decimal:
    return Decimal(format_micros(amount_micros))


def _time(moment_us: int) -> str:
    return to_datetime(moment_us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_AS_TEXT: dict[Kind, Callable[[Any], Any]] = {
    Kind.TEXT: str,
    Kind.INTEGER: int,
    Kind.CREDITS: format_micros,
    Kind.TIME: _time,
    Kind.AMOUNT: str,
}
_AS_ARROW: dict[Kind, Callable[[Any], Any]] = {Kind.CREDITS: _credits, Kind.AMOUNT: Decimal}
