"""The real command on a disk that is too small: exit status 4 and a sentence; once there is space, it completes.

Where this machine lets a test mount a file system of its own, one disk has a few pages. On the other the size of files
is limited, which SQLite sees as a disk that fails.
"""

import subprocess

import pytest

from worlds import COMMAND, environment, open_world

SMALL_KIB, LARGE_KIB, FILE_BLOCKS = 700, 65_536, 800
# Runs verbs in turn on a small disk, and then on a large one; each ends with its exit status in a file of its own.
SCRIPT = """
say() { name=$1; shift; "$@" > "$OUT/$name.out" 2> "$OUT/$name.err"; echo $? > "$OUT/$name.status"; }
if [ "$MOUNTED" ]
then mount -t tmpfs -o size=${SMALL}k tmpfs "$DISK"; say full "$@" sync; mount -o remount,size=${LARGE}k "$DISK"
else (ulimit -f "$FILE_BLOCKS"; say full "$@" sync)
fi
say verified "$@" ledger verify
say again "$@" sync --full
say proved "$@" ledger verify
"""


def own_mounts():
    """What starts a process that may mount, where it can be had; nothing where it cannot."""
    for flags in (["--mount"], ["--mount", "--map-root-user"]):
        try:
            done = subprocess.run(["unshare", *flags, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
        except OSError:
            return []
        if done.returncode == 0:
            return ["unshare", *flags]
    return []


@pytest.mark.parametrize("mounts", [own_mounts(), []], ids=["a small disk", "small files"])
def test_a_disk_that_is_too_small(tmp_path, mounts):
    """In the middle of the first sync; the ledger that is left holds, and Stripe's tally is exact in the end."""
    disk, out = tmp_path / "disk", tmp_path / "out"
    disk.mkdir()
    out.mkdir()
    with open_world(tmp_path, traces=600) as world:
        world.settings["BILLING_LEDGER_URL"] = f"sqlite:///{disk / 'ledger.sqlite3'}"
        own = {"DISK": str(disk), "OUT": str(out), "SMALL": str(SMALL_KIB), "LARGE": str(LARGE_KIB)}
        own |= {"MOUNTED": "yes" if mounts else "", "FILE_BLOCKS": str(FILE_BLOCKS)}
        subprocess.run(
            [*mounts, "sh", "-c", SCRIPT, "sh", *COMMAND],
            env={**environment(tmp_path, world.settings), **own},
            check=True,
            timeout=120,
        )
        status = {path.stem: path.read_text().strip() for path in out.glob("*.status")}
        error = (out / "full.err").read_text()

        # 1 says that the story has traces that are held.
        assert status == {"full": "4", "verified": "0", "again": "1", "proved": "0"}
        assert "tallymark: no space is left" in error or "tallymark: the disk under the ledger" in error
        assert "Traceback" not in error
        assert {customer: int(micros) for customer, micros in credits_of(world).items()} == whole(world.expected.micros)
        assert bool(mounts) == (list(disk.iterdir()) == [])


def credits_of(world):
    """What Stripe counted, by customer."""
    return {customer: credits for (customer, _), credits in world.stripe.tally().items() if credits}


def whole(micros):
    """Whole credits of each customer; the rest is carried."""
    return {customer: amount // 1_000_000 for customer, amount in micros.items() if amount >= 1_000_000}
