"""The figures of a service in the text that Prometheus reads.

No label names a customer, a trace or a key. Credits are floats here, as Prometheus has nothing else: to look at only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from ..core.clock import SECOND_US, Clock
from ..core.credits import MICROS_PER_CREDIT
from ..flows.figures import Amount, Figures

# When this process began to count is told by Prometheus itself.
disable_created_metrics()  # type: ignore[no-untyped-call]
WEBHOOKS = ("taken", "ignored", "refused", "failed")


class Metrics:
    """What a service tells: the ledger's figures, read anew each time, and the webhooks of this process."""

    def __init__(self, read: Callable[[], Figures], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._webhooks = Counter(
            "tallymark_webhooks", "Webhooks that this process got, by what became of them.", ["outcome"], registry=None
        )
        for outcome in WEBHOOKS:
            self._webhooks.labels(outcome)

    def count_webhook(self, outcome: str) -> None:
        """Count a webhook by one of WEBHOOKS."""
        self._webhooks.labels(outcome).inc()

    def text(self) -> bytes:
        """All metrics. Raises LedgerError."""
        registry = CollectorRegistry()
        registry.register(_Told(list(metrics_of(self._read(), self._clock.now_us()))))
        registry.register(self._webhooks)
        return generate_latest(registry)


class _Told(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def metrics_of(figures: Figures, now_us: int) -> Iterator[Metric]:
    """The ledger's figures as metrics."""
    if figures.read_up_to_us is not None:
        lag_seconds = (now_us - figures.read_up_to_us) / SECOND_US
        yield GaugeMetricFamily(
            "tallymark_read_lag_seconds", "Age of the newest moment up to which all usage was read.", lag_seconds
        )
    owed = figures.owed_micros / MICROS_PER_CREDIT
    yield GaugeMetricFamily("tallymark_owed_credits", "Credits that are recorded and on their way to Stripe.", owed)
    yield from _by(
        "meter_events", "meter_event_credits", "Meter events that are not settled", "state", figures.meter_events
    )
    yield from _by("held_traces", "held_trace_credits", "Traces that wait for a person", "reason", figures.held_traces)
    yield from _by(
        "held_meter_events",
        "held_meter_event_credits",
        "Meter events that wait for a person",
        "reason",
        figures.held_meter_events,
    )
    help_reports = "Reports of Stripe that are not explained yet."
    yield GaugeMetricFamily("tallymark_unexplained_reports", help_reports, figures.open_reports)
    alerts = GaugeMetricFamily("tallymark_alert", "What is wrong as serve last looked, by rule.", labels=["rule"])
    for rule, count in figures.alerts.items():
        alerts.add_metric([rule], count)
    yield alerts
    yield from _of_jobs(figures)


def _by(counted: str, summed: str, what: str, label: str, amounts: Mapping[str, Amount]) -> Iterator[Metric]:
    counts = GaugeMetricFamily(f"tallymark_{counted}", f"{what}, by {label}.", labels=[label])
    sums = GaugeMetricFamily(f"tallymark_{summed}", f"{what}: their credits, by {label}.", labels=[label])
    for name, amount in amounts.items():
        counts.add_metric([name], amount.count)
        sums.add_metric([name], amount.amount_micros / MICROS_PER_CREDIT)
    yield counts
    yield sums


def _of_jobs(figures: Figures) -> Iterator[Metric]:
    runs = SummaryMetricFamily("tallymark_job_run_seconds", "Runs of each job and how long they took.", labels=["job"])
    failures = CounterMetricFamily("tallymark_job_failures", "Runs that failed, by job.", labels=["job"])
    running = GaugeMetricFamily("tallymark_job_running", "1 while a process runs the job.", labels=["job"])
    worked = GaugeMetricFamily(
        "tallymark_job_last_success_timestamp_seconds", "When a run last worked; none before.", labels=["job"]
    )
    for job in figures.jobs:
        runs.add_metric([job["name"]], job["runs"], job["run_us"] / SECOND_US)
        failures.add_metric([job["name"]], job["failures"])
        running.add_metric([job["name"]], 1 if job["owner"] else 0)
        if job["succeeded_at_us"] is not None:
            worked.add_metric([job["name"]], job["succeeded_at_us"] / SECOND_US)
    requests = CounterMetricFamily("tallymark_requests", "Requests of all jobs, by service.", labels=["service"])
    for service in ("langfuse", "stripe"):
        requests.add_metric([service], sum(job[f"{service}_requests"] for job in figures.jobs))
    accepted = sum(job["accepted"] for job in figures.jobs)
    yield from (runs, failures, running, worked, requests)
    help_accepted = "Meter events that Stripe accepted from jobs of the service."
    yield CounterMetricFamily("tallymark_accepted_meter_events", help_accepted, accepted)
