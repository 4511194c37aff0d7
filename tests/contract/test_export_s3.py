"""An export in a bucket, on a real server of S3's protocol: listed, fetched file by file, and its errors in words."""

import pytest
from moto.server import ThreadedMotoServer

from builders import NOW_US, PROJECT
from exports import enriched_rows, write_export
from tallymark.core.clock import DAY_US, MINUTE_US
from tallymark.errors import ConfigError, KeyRefused, NotFound, Unreachable
from tallymark.sandbox.langfuse import SandboxLangfuse
from tallymark.source.export_files import open_store

FROM_US = NOW_US - 40 * DAY_US
END_US = NOW_US - 20 * MINUTE_US


@pytest.fixture(scope="module")
def endpoint():
    """A server on loopback."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch):
    """A function that puts a folder into a new bucket, and gives the address of a prefix in it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    import boto3

    client = boto3.client("s3", endpoint_url=endpoint)

    def upload(folder, name, prefix="exports/"):
        client.create_bucket(Bucket=name)
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            client.upload_file(str(file), name, f"{prefix}{file.relative_to(folder)}")
        return f"s3://{name}/{prefix}"

    yield upload
    client.close()


@pytest.fixture
def langfuse(clock):
    """Version 4, where observations are read."""
    return SandboxLangfuse(clock=clock, generation="events_only")


@pytest.mark.parametrize(("kind", "prefix"), [("parquet", ""), ("jsonl.gz", "exports/all/")])
def test_an_export_in_a_bucket_is_billed(
    kind, prefix, bucket, endpoint, langfuse, write, settings, run_backfill, tmp_path
):
    """With a prefix and without; other files in the bucket are no matter."""
    for number in range(3):
        write(f"t{number}", (60 + number, {"costDetails": {"total": 0.01}}), customer=f"cus_{number}")
    folder = write_export(
        tmp_path / "export", {"observations_v2": enriched_rows(langfuse)}, kind=kind, from_us=FROM_US, to_us=END_US
    )
    (folder / "read-me").write_text("not of Langfuse")
    (folder / PROJECT / "manifests" / "notes.txt").write_text("not of Langfuse")
    url = bucket(folder, f"billed-{len(prefix)}", prefix)
    places = {"BILLING_EXPORT_URL": url, "BILLING_EXPORT_S3_ENDPOINT": endpoint}

    summary = run_backfill(settings(BILLING_SOURCE="export", **places), from_us=FROM_US)

    assert (summary.fetched, summary.owed, summary.failed) == (3, 3, 0)


def test_errors_of_a_bucket_are_told_in_words(bucket, endpoint, tmp_path, monkeypatch):
    """A bucket that is not there, a file that is not there, no server, and no keys."""
    (tmp_path / "a").touch()
    url = bucket(tmp_path, "errors")

    with pytest.raises(ConfigError, match="no such bucket"):
        open_store("s3://missing/x", endpoint).folders()
    with pytest.raises(NotFound, match="which a manifest names"):
        open_store(url, endpoint).content("p/manifests/x.json")
    with pytest.raises(NotFound, match="which a manifest names"), open_store(url, endpoint).on_disk("p/traces/x.json"):
        pass
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(Unreachable, match="run again"):
        open_store(url, "http://127.0.0.1:1").folders()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(KeyRefused, match="as boto3 finds them"):
        open_store(url, endpoint).folders()
