"""The commands: parse, call one flow, print; the exit status comes from the result or the error.

Nothing heavy is imported here: a command imports what it needs when it runs, so that help is instant.
"""

from __future__ import annotations

import io
import sys
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click

from . import __version__
from .commands.close import close
from .commands.common import Moment, begin, common
from .commands.estimate import estimated
from .commands.held import held
from .commands.ledger import ledger
from .commands.rates import rates
from .commands.reconcile import reconcile
from .commands.serve import serve
from .commands.worker import by_workers, plans, run_by_workers, worker
from .core.secrets import hide
from .crashes import show_discreetly
from .errors import TallymarkError

EXIT_USAGE = 2
EXIT_STOPPED = 130
PORT = click.IntRange(0, 65535)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tallymark")
def cli() -> None:
    """Turn Langfuse traces into Stripe usage-based billing: every trace counted once, and able to prove it."""


cli.add_command(held)
cli.add_command(reconcile)
cli.add_command(serve)
cli.add_command(worker)
cli.add_command(plans)
cli.add_command(close)
cli.add_command(rates)
cli.add_command(ledger)


@cli.command()
@common
@click.option("--trace", "trace_id", help="Only this trace.")
@click.option("--from", "from_us", type=Moment(), help="Read from this time on.")
@click.option("--to", "to_us", type=Moment(), help="Read up to this time.")
@click.option("--full", is_flag=True, help="Read the whole look-back again, to catch what came late.")
@click.option("--use-tag-filtering/--no-use-tag-filtering", default=None, help="Ask only for traces tagged pending.")
@click.option("--dry-run", is_flag=True, help="Read and rate, but write nothing anywhere.")
@by_workers
def sync(
    config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, workers: str | None, **options: Any
) -> None:
    """Bill what is new: collect, send, mark."""
    config = begin(config_file, verbose, quiet)
    from .console import print_json, progress
    from .flows.sync import sync as run
    from .show import show_sync

    with progress(not (quiet or as_json)) as step:
        do = partial(run_by_workers, "sync", as_json, workers) if workers else run
        summary = do(config, progress=step, **options)
    print_json(summary) if as_json else show_sync(summary)
    sys.exit(summary.exit_status)


@cli.command()
@common
@click.option("--from", "from_us", type=Moment(), help="Read from this time on; 35 days unless given.")
@click.option("--to", "to_us", type=Moment(), help="Read up to this time.")
@click.option("--dry-run", is_flag=True, help="Read and rate, but write nothing anywhere.")
@by_workers
@estimated
def backfill(
    config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, workers: str | None, **options: Any
) -> None:
    """Bring history into the ledger, tag what is unbilled, and say whether tag filtering is safe."""
    config = begin(config_file, verbose, quiet)
    from .console import print_json, progress
    from .flows.backfill import backfill as run
    from .show import show_backfill

    with progress(not (quiet or as_json)) as step:
        do = partial(run_by_workers, "backfill", as_json, workers) if workers else run
        summary = do(config, progress=step, **options)
    print_json(summary) if as_json else show_backfill(summary)
    sys.exit(summary.exit_status)


@cli.command()
@common
@click.argument("trace_id")
def explain(config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, trace_id: str) -> None:
    """Show how a trace became credits, in which meter event, with which answer, and its marks."""
    config = begin(config_file, verbose, quiet)
    from .api import explain as ask
    from .console import print_json
    from .show import show_explanation

    found = ask(config, trace_id)
    print_json(found) if as_json else show_explanation(found)


@cli.command()
@common
@click.option("--customer", "customer_id", help="Only this customer.")
@click.option("--from", "from_us", type=Moment(), help="From this time on; 30 days unless given.")
@click.option("--to", "to_us", type=Moment(), help="Up to this time.")
@click.option(
    "--by",
    type=click.Choice(["customer", "day", "model", "flow"]),
    default="customer",
    show_default=True,
    help="What a row stands for; the flow is the trace's name.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "parquet"]),
    default="table",
    show_default=True,
    help="How rows are written; Parquet needs --output and tallymark[bulk].",
)
@click.option("--output", type=click.Path(path_type=Path), help="Write rows, as CSV or Parquet, into this file.")
def usage(
    config_file: Path | None,
    verbose: bool,
    quiet: bool,
    as_json: bool,
    by: str,
    form: str,
    output: Path | None,
    **options: Any,
) -> None:
    """Credits, cost, revenue and margin by customer, day, model or flow."""
    if (form == "table" and output) or (form == "parquet" and not output):
        raise click.UsageError("--format parquet needs --output FILE, and --output needs --format csv or parquet.")
    config = begin(config_file, verbose, quiet)
    from .api import usage as ask
    from .console import print_csv, print_json, print_table
    from .flows.usage import COLUMNS, write_usage

    rows = ask(config, by=by, **options)
    if output:
        write_usage(output, form, rows)
        print_json({"written": str(output), "rows": len(rows)}) if as_json else click.echo(f"wrote {output}")
    elif as_json:
        print_json({"by": by, "rows": rows})
    elif form == "csv":
        print_csv(rows, COLUMNS)
    else:
        print_table([{**row, by: row["key"]} for row in rows], (by, *COLUMNS[1:]))


@cli.command()
@common
def doctor(config_file: Path | None, verbose: bool, quiet: bool, as_json: bool) -> None:
    """Check settings, servers, keys, meter, customers, clock and ledger; say what to do."""
    config = begin(config_file, verbose, quiet)
    from .console import print_json
    from .flows.doctor import doctor as run
    from .flows.doctor import worst
    from .show import show_findings

    findings = run(config)
    print_json({"findings": findings}) if as_json else show_findings(findings)
    sys.exit(worst(findings))


@cli.command()
@common
@click.option("--force", is_flag=True, help="Overwrite the file if it is there.")
def init(config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, force: bool) -> None:
    """Write a commented tallymark.toml."""
    from .config import FILE_NAME, template
    from .console import print_json
    from .errors import ConfigError

    path = config_file or Path(FILE_NAME)
    try:
        if path.exists() and not force:
            raise ConfigError(f"{path} is there already; use --force to overwrite it, or --config to name another.")
        path.touch(mode=0o600)
        path.write_text(template(), encoding="utf-8")
    except OSError as problem:
        raise ConfigError(f"{path} cannot be written: {problem.strerror}; name another with --config.") from problem
    if as_json:
        print_json({"written": str(path)})
    else:
        click.echo(f"wrote {path}; set the keys (or their environment variables), then run `tallymark doctor`")


@cli.group()
def config() -> None:
    """The settings."""


@config.command("show")
@common
def config_show(config_file: Path | None, verbose: bool, quiet: bool, as_json: bool) -> None:
    """Show every setting, its value (secrets masked) and where it came from."""
    settings = begin(config_file, verbose, quiet)
    from .console import print_json, print_table

    rows = [{"setting": name, "value": value, "from": origin} for name, value, origin in settings.describe()]
    print_json({"settings": rows}) if as_json else print_table(rows, ("setting", "value", "from"))


@cli.command()
@common
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, shell: str) -> None:
    """Print the shell's completion script: eval "$(tallymark completion bash)"."""
    from click.shell_completion import get_completion_class

    from .console import print_json

    kind = get_completion_class(shell)
    if kind is not None:
        script = kind(cli, {}, "tallymark", "_TALLYMARK_COMPLETE").source()
        print_json({"shell": shell, "script": script}) if as_json else click.echo(script)


@cli.command()
@common
@click.option(
    "--story",
    type=click.Choice(["billing", "doubt", "corrections"]),
    default="billing",
    show_default=True,
    help="billing: bill everything, once. doubt: Stripe takes meter events and never answers. corrections: late and "
    "lower costs, deletions, rejections, a closed period.",
)
@click.option(
    "--traces", type=click.IntRange(1), help="How many traces it has; 40,000, 300 for doubt, 10,000 for corrections."
)
@click.option(
    "--generation",
    type=click.Choice(["traces", "observations"]),
    default="traces",
    show_default=True,
    help="Which of Langfuse's APIs the sandbox serves.",
)
@click.option("--workload", multiple=True, type=click.Path(exists=True, path_type=Path), help="Bill this CSV instead.")
@click.option("--keep", is_flag=True, help="At the end, serve the dashboard until stopped.")
def demo(config_file: Path | None, verbose: bool, quiet: bool, as_json: bool, **options: Any) -> None:
    """Run the whole story on a local sandbox: no account, no key, no network."""
    from .demo import run

    sys.exit(run(as_json=as_json, quiet=quiet, **options))


@cli.command()
@common
@click.option(
    "--port-langfuse", type=PORT, default=3000, show_default=True, help="Port of the local Langfuse; 0 for a free one."
)
@click.option(
    "--port-stripe", type=PORT, default=3001, show_default=True, help="Port of the local Stripe; 0 for a free one."
)
@click.option("--traces", default=0, show_default=True, help="Fill it with a story of this many traces.")
@click.option(
    "--generation",
    type=click.Choice(["legacy", "dual", "events_only"]),
    default="legacy",
    show_default=True,
    help="Which Langfuse it is: version 3 (legacy), or version 4 in one of its two modes.",
)
@click.option(
    "--meter-window",
    type=click.Choice(["hour", "day"]),
    help="Make its meter a pre-aggregated one, which counts the last meter event of each hour or day (UTC).",
)
def sandbox(
    config_file: Path | None,
    verbose: bool,
    quiet: bool,
    as_json: bool,
    port_langfuse: int,
    port_stripe: int,
    traces: int,
    generation: Literal["legacy", "dual", "events_only"],
    meter_window: Literal["hour", "day"] | None,
) -> None:
    """Run only the sandbox, a local Langfuse and Stripe, until stopped."""
    from .demo import run_sandbox
    from .sandbox.process import Options

    run_sandbox(
        Options(
            port_langfuse=port_langfuse,
            port_stripe=port_stripe,
            story=traces,
            generation=generation,
            meter_window=meter_window,
        ),
        as_json=as_json,
    )


def main() -> None:
    """The command line; turns what went wrong into a sentence and an exit status."""
    show_discreetly()
    # Stripe's SDK loads it where it finds it, for its asynchronous half: a tenth of the time that a command starts in.
    sys.modules.setdefault("httpx", None)  # type: ignore[arg-type]
    if not all(_is_text(word) for word in sys.argv):
        _fail("what was typed is not UTF-8 text; type it again, or rename the file", EXIT_USAGE)
    try:
        status = cli.main(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except TallymarkError as error:
        _fail(hide(str(error)), error.exit_status)
    except click.exceptions.Abort:
        _fail("stopped; the ledger is consistent, run again to go on", EXIT_STOPPED)
    except KeyboardInterrupt:
        _fail("stopped; the ledger is consistent, run again to go on", EXIT_STOPPED)
    except click.ClickException as error:
        # Click repeats what was typed, and that may be a key.
        _say_as_json(hide(error.format_message()), EXIT_USAGE)
        shown = io.StringIO()
        error.show(shown)
        click.echo(hide(shown.getvalue()), nl=False, err=True)
        sys.exit(EXIT_USAGE)


def _is_text(word: str) -> bool:
    """Whether a word can be written, and be a name; bytes that are no text come in as lone surrogates."""
    return "\0" not in word and word.encode(errors="ignore").decode() == word


def _fail(message: str, status: int) -> None:
    _say_as_json(message, status)
    click.echo(f"tallymark: {message}", err=True)
    sys.exit(status)


def _say_as_json(message: str, status: int) -> None:
    """Who asked for JSON gets one object even when the command fails."""
    if "--json" in sys.argv:
        from .console import print_json

        print_json({"error": message, "exit_status": status})
