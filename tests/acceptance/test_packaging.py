"""What users install: the wheel that the image's own line makes has templates and static files, and serves them."""

import json
import shlex
import shutil
import signal
import subprocess
import sysconfig
import urllib.request
import venv
from pathlib import Path

import pytest

from tallymark.web.templating import HERE
from worlds import environment

ROOT = Path(__file__).parents[2]
INSTALL = "scripts/install-release"


def instructions():
    """The Dockerfile: each instruction with its words."""
    lines = (line for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if line and line[0] != "#")
    return [(name, shlex.split(rest)) for name, _, rest in (line.partition(" ") for line in lines)]


def words_of(name):
    """The words of every instruction of a kind."""
    return [words for kind, words in instructions() if kind == name]


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """What the image gets to see: the files that it copies, and no others."""
    folder = tmp_path_factory.mktemp("context")
    for *sources, target in words_of("COPY"):
        for source in sources:
            found, copy = ROOT / source, folder / (target if target != "./" else source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(found, copy) if found.is_dir() else shutil.copy(found, copy)
    return folder


@pytest.fixture(scope="module")
def python(context):
    """A Python with tallymark installed by the image's line; all else is this one's, which is quick."""
    home = context / "venv"
    venv.create(home, with_pip=False)
    made = home / "bin" / "python"
    packages = next(home.glob("lib/python*/site-packages"))
    (packages / "ours.pth").write_text(sysconfig.get_path("purelib"))
    subprocess.run(
        [context / INSTALL, "--no-deps", "--no-build-isolation", "--quiet", "--ignore-installed"],
        env={**environment(context), "PYTHON": str(made)},
        check=True,
        timeout=120,
    )
    return made


def test_the_image_runs_the_script_that_is_tested_here():
    """And a line that makes the ledger's folder; nobody is root; no registry is named."""
    script, folder = words_of("RUN")
    assert (script, folder[0]) == ([INSTALL], "install")
    assert words_of("USER") == [["10001:10001"]]
    assert words_of("FROM") == [["python:3.13-slim"]]
    assert instructions().index(("USER", ["10001:10001"])) < instructions().index(("CMD", words_of("CMD")[0]))
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    assert allowed == {source for *sources, _ in words_of("COPY") for source in sources}


def test_the_installed_wheel_serves_its_own_pages(python, tmp_path):
    """From its site-packages, with every template and static file of the source."""
    where = "import tallymark.web.templating as t; print(t.HERE)"
    run = {"env": environment(tmp_path), "cwd": tmp_path, "text": True}
    folder = Path(subprocess.run([python, "-c", where], check=True, capture_output=True, **run).stdout.strip())
    assert python.parent.parent in folder.parents
    for kind in ("templates", "static"):
        names = {path.name for path in (HERE / kind).iterdir()}
        assert {path.name for path in (folder / kind).iterdir()} == names != set()

    serve = [python.parent / "tallymark", "serve", "--port", "0", "--json"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, **run) as service:
        url = json.loads(service.stdout.readline())["url"]
        answers = {
            path: urllib.request.urlopen(url + path, timeout=10).read().decode()
            for path in ("/login", "/static/own/tallymark.css", "/static/charts/Chart.bundle.js")
        }
        service.send_signal(signal.SIGTERM)
    assert "<form" in answers["/login"]
    assert answers["/static/own/tallymark.css"] == (HERE / "static" / "tallymark.css").read_text("utf-8")
    assert service.returncode == 0
