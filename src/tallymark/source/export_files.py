"""Where a blob export lies, and which of its files are complete: a folder, or a bucket of an S3-compatible server.

Facts: facts/langfuse.md section 10.1. A run of Langfuse writes `{prefix}{project id}/{table}/{time}.{kind}` and last of
all `{prefix}{project id}/manifests/{time}.json`, which names those files: what no manifest names is not complete yet.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

import msgspec

from ..core.clock import SECOND_US, parse_time
from ..core.secrets import told
from ..errors import ConfigError, Garbled, KeyRefused, NotFound, Unavailable, Unreachable

MANIFESTS = "manifests"
FAR_US = parse_time("2100-01-01T00:00:00Z")
TABLES = TRACES, OBSERVATIONS, ENRICHED, SCORES = "traces", "observations", "observations_v2", "scores"


class Store(Protocol):
    """Named files. A name is a path below the place of the export, with slashes."""

    where: str

    def folders(self) -> list[str]:
        """The folders that lie directly in the place."""
        ...

    def names(self, folder: str) -> list[str]:
        """The files directly in a folder, in order of their names; none if there is no such folder."""
        ...

    def content(self, name: str) -> bytes:
        """A small file. Raises NotFound."""
        ...

    def on_disk(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """A file on this machine's disk, while the context lasts. Raises NotFound."""
        ...


@dataclass(frozen=True, slots=True)
class ExportFile:
    """A file that a manifest names: its table, and its name in the store."""

    table: str
    name: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """One run of the export that is complete: rows of from_us <= time <= to_us, in microseconds, and their files."""

    project_id: str
    from_us: int
    to_us: int
    written_us: int
    files: tuple[ExportFile, ...]

    @property
    def tables(self) -> set[str]:
        """The tables that it wrote."""
        return {file.table for file in self.files}


def open_store(url: str, s3_endpoint: str | None) -> Store:
    """The store behind BILLING_EXPORT_URL. Raises ConfigError if it is no folder, or a package is missing."""
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return S3Store(parts.hostname or "", parts.path.strip("/"), s3_endpoint)
    return FolderStore(Path(unquote(parts.path)) if parts.scheme == "file" else Path(url).expanduser())


class FolderStore:
    """An export in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        """Raises ConfigError if there is no such folder."""
        if not folder.is_dir():
            raise ConfigError(f"BILLING_EXPORT_URL is {str(folder)!r}, which is no folder; check it")
        self._folder = folder
        self.where = str(folder)

    def folders(self) -> list[str]:
        """The folders that lie directly in the place."""
        return sorted(each.name for each in self._folder.iterdir() if each.is_dir())

    def names(self, folder: str) -> list[str]:
        """The files directly in a folder, in order of their names."""
        place = self._folder / folder
        return sorted(f"{folder}/{each.name}" for each in place.iterdir() if each.is_file()) if place.is_dir() else []

    def content(self, name: str) -> bytes:
        """A small file. Raises NotFound."""
        with self.on_disk(name) as path:
            return path.read_bytes()

    @contextlib.contextmanager
    def on_disk(self, name: str) -> Iterator[Path]:
        """The file itself. Raises NotFound."""
        path = self._folder / name
        if not path.is_file():
            raise _missing(self.where, name)
        yield path


class S3Store:
    """An export in a bucket; each file is fetched when it is read, and removed after: one at a time is on the disk."""

    def __init__(self, bucket: str, prefix: str, endpoint: str | None) -> None:
        """Raises ConfigError if boto3 is not installed."""
        try:
            import boto3
        except ImportError as problem:
            raise ConfigError("an export in S3 needs boto3: pip install 'tallymark[bulk]'.") from problem
        # A session of its own: keys are looked for each time, and not once for the process.
        self._client: Any = boto3.Session().client("s3", endpoint_url=endpoint)
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self.where = f"s3://{bucket}/{prefix}"

    def folders(self) -> list[str]:
        """The folders that lie directly in the place."""
        return sorted(each["Prefix"][len(self._prefix) : -1] for each in self._listed("", "CommonPrefixes"))

    def names(self, folder: str) -> list[str]:
        """The files directly in a folder, in order of their names."""
        return sorted(each["Key"][len(self._prefix) :] for each in self._listed(f"{folder}/", "Contents"))

    def content(self, name: str) -> bytes:
        """A small file. Raises NotFound."""
        with self._errors(name):
            body: bytes = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()
            return body

    @contextlib.contextmanager
    def on_disk(self, name: str) -> Iterator[Path]:
        """A copy that lasts as long as the context. Raises NotFound."""
        with tempfile.TemporaryDirectory(prefix="tallymark-export-") as folder:
            path = Path(folder) / name.rpartition("/")[2]
            with self._errors(name):
                self._client.download_file(self._bucket, self._prefix + name, str(path))
            yield path

    def _listed(self, below: str, what: str) -> list[Any]:
        with self._errors(below or "the bucket"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + below, Delimiter="/"
            )
            return [each for page in pages for each in page.get(what, ())]

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """The errors of boto3 in our words."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            raise self._error_of(what, error.response) from error
        except (BotoCoreError, Boto3Error) as error:
            raise self._unreachable(what, type(error).__name__) from error

    def _error_of(self, what: str, answer: Any) -> Exception:
        code = str(answer.get("Error", {}).get("Code", ""))
        if code in ("404", "NoSuchKey"):
            return _missing(self.where, what)
        if code == "NoSuchBucket":
            return ConfigError(f"{self.where} has no such bucket; check BILLING_EXPORT_URL")
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status in (401, 403):
            return KeyRefused(f"{self.where} refuses {what} ({code}): its keys, found as boto3 does, may not read it")
        return Unavailable(f"{self.where} cannot give {what} ({status} {told(code)}). Nothing is lost: run again.")

    def _unreachable(self, what: str, kind: str) -> Exception:
        if "Credentials" in kind:
            return KeyRefused(
                f"there are no keys for {self.where} ({kind}); set them as boto3 finds them, AWS_… or a file"
            )
        return Unreachable(f"{self.where} cannot be reached for {what} ({kind}). Nothing is lost: run again.")


def _missing(where: str, name: str) -> NotFound:
    return NotFound(
        f"{where} lacks {name}, which a manifest names: the copy is not complete, or the file was deleted. "
        "Bring it back, or read a range without it."
    )


# ---- manifests


class _Window(msgspec.Struct):
    minTimestamp: str  # noqa: N815 - Langfuse's own names
    maxTimestamp: str  # noqa: N815


class _File(msgspec.Struct):
    key: str
    table: str


class _Manifest(msgspec.Struct):
    projectId: str  # noqa: N815
    window: _Window
    files: list[_File]
    version: int = 1
    createdAt: str | None = None  # noqa: N815


_decode = msgspec.json.Decoder(_Manifest).decode


def project_folder(store: Store, project_id: str) -> str:
    """The folder of a project in the store. Raises ConfigError if nothing was exported there."""
    if project_id in store.folders():
        return project_id
    raise ConfigError(
        f"{store.where} holds no folder {project_id!r}, the id of the project of these keys; "
        "check BILLING_EXPORT_URL: it ends where the folders of projects lie"
    )


def manifests(store: Store, project_id: str, since_us: int) -> list[Manifest]:
    """The complete runs of a project's export that end at `since_us` or later, the oldest first.

    Raises ConfigError, NotFound, Garbled or another RemoteError.
    """
    folder = project_folder(store, project_id)
    names = [name for name in store.names(f"{folder}/{MANIFESTS}") if name.endswith(".json")]
    found = [_read_manifest(store, folder, name) for name in names if _ends_us(name) >= since_us]
    for each in found:
        if each.project_id != project_id:
            raise ConfigError(f"{store.where}: a manifest in {folder} is of another project; mend the folder")
    return sorted(found, key=lambda each: (each.to_us, each.from_us))


def _ends_us(name: str) -> int:
    """Up to when the run of a manifest reaches, by its name; what has another name is always read."""
    day, _, time = name.rpartition("/")[2].removesuffix(".json").partition("T")
    try:
        return parse_time(f"{day}T{time.replace('-', ':')}Z") + SECOND_US
    except ValueError:
        return FAR_US


def _read_manifest(store: Store, folder: str, name: str) -> Manifest:
    try:
        said = _decode(store.content(name))
        if said.version != 1:
            raise ConfigError(f"{store.where}: {name} is of version {said.version}, which this tallymark does not know")
        known = [file for file in said.files if file.table in TABLES]
        files = tuple(ExportFile(file.table, _name_in(folder, file)) for file in known)
        from_us, to_us = parse_time(said.window.minTimestamp), parse_time(said.window.maxTimestamp)
        return Manifest(said.projectId, from_us, to_us, _time_or(said.createdAt, to_us), files)
    except (msgspec.MsgspecError, ValueError) as problem:
        raise Garbled(f"{store.where}: {name} is no manifest of an export ({told(str(problem))}).") from problem


def _name_in(folder: str, file: _File) -> str:
    """The name of a file, whose key begins with a prefix that the place of the export may have or not."""
    return f"{folder}/{file.table}/{file.key.rpartition('/')[2]}"


def _time_or(text: str | None, default_us: int) -> int:
    return parse_time(text) if text else default_us


def gaps(told: Sequence[tuple[int, int]], from_us: int, to_us: int) -> list[tuple[int, int]]:
    """What is missing of a range between stretches of time, the oldest first, in microseconds."""
    missing: list[tuple[int, int]] = []
    reached_us = from_us
    for start_us, end_us in sorted(told):
        if min(start_us, to_us) > reached_us:
            missing.append((reached_us, min(start_us, to_us)))
        reached_us = max(reached_us, end_us)
    return missing
