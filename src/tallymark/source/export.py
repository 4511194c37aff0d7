"""Langfuse's blob export, read and added up by DuckDB: traces without a Python object for each observation.

Files are taken one after the other into a database of its own in a temporary folder: of each row the few columns that
billing reads, no prompt, no answer. Then the engine adds up each trace, exactly, and gives them in order of their time.
Memory is bounded by a setting of the engine; what does not fit is put on the disk (docs/adr/0040).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..core.clock import HOUR_US
from ..core.types import Trace
from ..errors import ConfigError, Garbled, TooMuch
from .export_files import ENRICHED, FAR_US, OBSERVATIONS, SCORES, TRACES, ExportFile, Manifest, Store, gaps, manifests
from .export_sql import ADD_UP, ORPHANS, SUMS, TABLES, projection
from .rows import Page
from .sums import pages_of

MEMORY_MAX = "300MB"
ROWS = 2000
# A file that is mostly unreadable is no export at all.
UNREADABLE_MAX = 10_000
# One observation with its prompt; Langfuse takes bodies of 4.5 MB, and joins some.
ROW_BYTES_MAX = 32 * 1024 * 1024
CSV_ROW_BYTES_MAX = 16 * 1024 * 1024
_JSON = f"ignore_errors = true, maximum_object_size = {ROW_BYTES_MAX}"
_CSV = (
    "all_varchar = true, header = true, delim = ',', quote = '\"', escape = '\"', parallel = false, "
    f"max_line_size = {CSV_ROW_BYTES_MAX}, buffer_size = {2 * CSV_ROW_BYTES_MAX}"
)
ROW_BAD = "%s: a row without the id, project, trace or start that Langfuse writes"


class ExportSource:
    """The export of one project."""

    name = "export"

    def __init__(self, store: Store, project_id: str, reach_us: int = HOUR_US, *, by_model: bool = False) -> None:
        """`reach_us`: how long before and after a range observations of its traces are looked for.

        `by_model`: whether tokens are told by model, where the rate card needs that.
        """
        self._store = store
        self._project_id = project_id
        self._reach_us = reach_us
        self._by_model = by_model
        self._listed: tuple[int, list[Manifest]] | None = None
        self.orphans = 0
        """Traces of which observations were exported and no row of their own, where they need one."""

    def complete_up_to(self, from_us: int) -> int:
        """Up to when complete runs tell of everything from a moment on; that moment itself if they do not."""
        return self.gaps(from_us, FAR_US)[0][0]

    def ends_us(self, from_us: int) -> int:
        """Up to when the newest run reaches; the moment that is asked about if there is none after it."""
        return max([from_us, *(each.to_us for each in self._runs(from_us))])

    def gaps(self, from_us: int, to_us: int) -> list[tuple[int, int]]:
        """Stretches of a range of which no complete run tells, the oldest first, in microseconds."""
        told = [(each.from_us, each.to_us) for each in self._runs(from_us)]
        return gaps([*told, (to_us, to_us)], from_us, to_us)

    def read(self, from_us: int, to_us: int) -> Iterator[Page]:
        """Traces with an observation of from_us <= start < to_us, in order of their time; before, what was unreadable.

        Raises ConfigError, Garbled if a file is damaged, NotFound if one that a manifest names is not there, TooMuch if
        disk or memory do not suffice.
        """
        with _engine() as engine:
            for manifest in self._runs(from_us):
                if manifest.from_us < to_us + self._reach_us:
                    self._take_run(engine, manifest)
            yield from _unreadable(engine)
            yield from pages_of(_sums(engine, self._project_id, from_us, to_us, self._by_model))
            self.orphans += engine.execute(ORPHANS).fetchone()[0]

    def confirm(self, _traces: Sequence[Trace]) -> list[Trace]:
        """None: a part of a trace may lie in a file that was not read, so an export lowers no bill."""
        return []

    def _runs(self, from_us: int) -> list[Manifest]:
        """The runs that a reading from a moment on needs; they are listed once."""
        if self._listed is None or self._listed[0] != from_us:
            self._listed = from_us, manifests(self._store, self._project_id, from_us - self._reach_us)
        return self._listed[1]

    def _take_run(self, engine: Any, manifest: Manifest) -> None:
        for file in files_to_read(manifest, self._store.where):
            with self._store.on_disk(file.name) as path:
                _take(engine, self._project_id, file, path)


def files_to_read(manifest: Manifest, where: str) -> list[ExportFile]:
    """The files of a run from which traces can be told: traces with observations, else observations that tell all.

    Of a run that has both only the former, as where both APIs can be read (docs/adr/0016).
    Raises ConfigError if it has neither.
    """
    wanted = {TRACES, OBSERVATIONS} if manifest.tables >= {TRACES, OBSERVATIONS} else {ENRICHED}
    if not wanted <= manifest.tables:
        raise ConfigError(
            f"the export in {where} holds {', '.join(sorted(manifest.tables)) or 'no table'}, from which nothing can "
            "be billed; in Langfuse let it export enriched observations, or traces and observations"
        )
    return [file for file in manifest.files if file.table in wanted | {SCORES}]


@contextlib.contextmanager
def _engine() -> Iterator[Any]:
    """A DuckDB with empty tables in a temporary folder. Raises ConfigError if it is not installed."""
    try:
        import duckdb
    except ImportError as problem:
        raise ConfigError("BILLING_SOURCE=export needs DuckDB: pip install 'tallymark[bulk]'.") from problem
    with tempfile.TemporaryDirectory(prefix="tallymark-export-") as folder:
        settings: dict[str, Any] = {
            "memory_limit": MEMORY_MAX,
            "temp_directory": f"{folder}/overflow",
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "preserve_insertion_order": False,
        }
        with duckdb.connect(config=settings) as engine:
            engine.execute("set TimeZone = 'UTC'")
            for statement in TABLES:
                engine.execute(statement)
            try:
                yield engine
            except duckdb.Error as problem:
                raise TooMuch(
                    f"DuckDB could not add up the export ({type(problem).__name__}): read a shorter range (--from, "
                    f"--to), or make room in {tempfile.gettempdir()}."
                ) from None


def _take(engine: Any, project_id: str, file: ExportFile, path: Path) -> None:
    """Take what billing reads of one file. Raises Garbled if the engine cannot read it."""
    import duckdb

    try:
        relation = _relation(path)
        types = {row[0]: row[1] for row in engine.execute(f"describe select * from {relation}").fetchall()}
        take, count = projection(file.table, relation, types)
        engine.execute(take, {"project_id": project_id})
        if count:
            engine.execute(count, {"project_id": project_id, "file": file.name})
    except duckdb.OutOfMemoryException:
        raise
    except duckdb.Error as problem:
        # The engine's own words may hold a piece of the file, and so of a prompt.
        raise Garbled(
            f"the export's file {file.name} cannot be read ({type(problem).__name__}): it is damaged, or no export of "
            "Langfuse. Fetch it again, or read a range without it."
        ) from None


def _relation(path: Path) -> str:
    """How the engine reads a file of this name. Raises Garbled if it is of no kind that Langfuse writes."""
    place = "'" + str(path).replace("'", "''") + "'"
    compression = f"compression = '{'gzip' if path.name.endswith('.gz') else 'none'}'"
    kind = path.name.removesuffix(".gz").rpartition(".")[2].lower()
    if kind == "parquet":
        return f"read_parquet({place})"
    if kind == "csv":
        return f"read_csv({place}, {compression}, {_CSV})"
    if kind in ("json", "jsonl"):
        shape = "array" if kind == "json" else "newline_delimited"
        return f"read_json_objects({place}, {compression}, format = '{shape}', {_JSON})"
    raise Garbled(f"the export's file {path.name} is neither JSON, JSONL, CSV nor Parquet.")


def _sums(engine: Any, project_id: str, from_us: int, to_us: int, by_model: bool) -> Iterator[Sequence[Any]]:
    """Add up; rows as TraceSums names them."""
    span = {"from_us": from_us, "to_us": to_us}
    for statement in ADD_UP:
        engine.execute(statement, _taken({**span, "by_model": by_model}, statement))
    found = engine.execute(SUMS, {**span, "project_id": project_id})
    while rows := found.fetchmany(ROWS):
        yield from rows


def _taken(values: dict[str, Any], statement: str) -> dict[str, Any]:
    """Those values that a statement takes."""
    return {name: value for name, value in values.items() if f"${name}" in statement}


def _unreadable(engine: Any) -> Iterator[Page]:
    """What has no identity, by file. Raises Garbled if that is more than a few rows."""
    found = engine.execute("select file, count(*) from unreadable group by file order by file").fetchall()
    if sum(rows for _, rows in found) > UNREADABLE_MAX:
        raise Garbled(f"{ROW_BAD % found[0][0]}; there are more than {UNREADABLE_MAX} of them. Is this an export?")
    problems = [ROW_BAD % file for file, rows in found for _ in range(rows)]
    if problems:
        yield Page([], 0, 0, problems)
