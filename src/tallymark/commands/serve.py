"""`tallymark serve`: sync, full sync and reconcile at their times, dashboard, API, metrics and Stripe's webhook."""

from __future__ import annotations

from pathlib import Path

import click

from .common import begin, common

PORT = click.IntRange(0, 65535)


@click.command()
@common
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; others need BILLING_API_TOKEN.")
@click.option("--port", type=PORT, default=8080, show_default=True, help="Port to listen on; 0 for a free one.")
def serve(config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, host: str, port: int) -> None:
    """Sync, full sync and reconcile at their times, until stopped; with dashboard, API, metrics and webhooks."""
    config = begin(config_file, verbose, quiet)
    from ..console import print_json
    from ..errors import ConfigError

    try:
        from ..web.run import serve as run
    except ImportError as error:
        raise ConfigError(f"serve needs packages that are missing ({error}); pip install 'tallymark[web]'.") from error

    def announce(address: str) -> None:
        print_json({"url": address}) if as_json else click.echo(f"tallymark serves on {address}; Ctrl-C stops.")

    run(config, host, port, announce)
