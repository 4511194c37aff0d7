"""One picture of what was measured, for the README: six questions, each with its unit and its labels on the marks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .figures import Figure, number
from .measures import PEAK_MEGABYTES_MAX
from .profile import REST

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Readable on white, also by those who see no red or green.
OURS, THEIRS, GREY, INK = "#2463a6", "#d97a1f", "#b8bec6", "#22272e"
# Stages of one phase share a hue, the longest in its darkest shade.
HUES = {
    "collect": ("#d97a1f", "#f0a866", "#f8d2ad"),
    "send": ("#2463a6", "#5b94cf", "#a9c8ea"),
    "mark": ("#5f8534", "#9cbd74", "#cfe0b8"),
    "": ("#7a6aa8", "#b0a5d2", "#d9d3ea"),
}
STAGES_SHOWN = 8
TRACES = 40_000
Known = Mapping[str, Figure]
Bars = Sequence[tuple[str, float, str, str]]
"""Label, value, what stands beside it, colour."""


def draw(known: Known, machine: Mapping[str, str], path: Path) -> None:
    """Draw the picture into a PNG file. Raises KeyError if something was not measured."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 10.5, "axes.edgecolor": GREY, "text.color": INK, "font.family": "DejaVu Sans"})
    figure, panels = pyplot.subplots(3, 2, figsize=(14, 13.5), constrained_layout=True, facecolor="white")
    for panel, paint in zip(panels.flat, (_script, _ratios, _profile, _costs, _memory, _growth), strict=True):
        paint(panel, known)
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(
        f"tallymark, measured by make bench on {_machine(machine)}, load {known['load'].text}", fontsize=11.5, color=INK
    )
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _machine(machine: Mapping[str, str]) -> str:
    python = machine["python"].split()[-1]
    return f"{machine['cores']} cores of an {machine['cpu']}, {machine['system'].split()[0]}, Python {python}"


def _title(panel: Axes, text: str, unit: str) -> None:
    panel.set_title(text, loc="left", fontsize=12, fontweight="bold", color=INK)
    panel.set_xlabel(unit, color=INK)
    panel.tick_params(colors=INK)


def _bars(panel: Axes, bars: Bars, *, log: bool = False) -> None:
    """Horizontal bars, the first on top, each with its value beside it."""
    places = range(len(bars), 0, -1)
    panel.barh(places, [value for _, value, _, _ in bars], color=[colour for *_, colour in bars], height=0.6)
    panel.set_yticks(places, [label for label, *_ in bars])
    panel.tick_params(axis="y", length=0)
    for place, (_, value, beside, _) in zip(places, bars, strict=True):
        panel.annotate(beside, (value, place), xytext=(5, 0), textcoords="offset points", va="center")
    widest = max(value for _, value, _, _ in bars)
    if log:
        panel.set_xscale("log")
        panel.set_xlim(min(value for _, value, _, _ in bars) / 3, widest * 6)
    else:
        panel.set_xlim(0, widest * 1.3)


def _script(panel: Axes, known: Known) -> None:
    script, paused = known["classic.script"].value / 1000 * TRACES, known["classic.pauses"].value / 1000 * TRACES
    bars = [
        ("script,\nwith its pauses", paused, THEIRS),
        ("script,\nwithout pauses", script, THEIRS),
        ("tallymark,\nobservations", known["sync.observations.seconds"].value, OURS),
        ("tallymark,\ntrace list", known["sync.traces.seconds"].value, OURS),
    ]
    _bars(panel, [(label, seconds, _time(seconds), colour) for label, seconds, colour in bars], log=True)
    _title(
        panel,
        "40,000 traces, read and billed",
        "seconds, logarithmic (the script: by its time a trace)",
    )


def _time(seconds: float) -> str:
    return f"{number(seconds)} s" if seconds < 180 else f"{seconds / 60:.0f} min"


def _ratios(panel: Axes, known: Known) -> None:
    named = {
        "collect,\ntrace list": known["collect.traces.ratio"],
        "collect,\nobservations": known["collect.observations.ratio"],
        "send,\nofficial SDK": known["send.ratio"],
    }
    bars = [(label, figure.value, figure.text, OURS) for label, figure in named.items()]
    _bars(panel, bars)
    panel.axvline(1, color=THEIRS, linewidth=1.5)
    panel.annotate(
        "the same requests, nothing done",
        (1, 0.45),
        xytext=(4, 0),
        textcoords="offset points",
        color=THEIRS,
        fontsize=9.5,
    )
    panel.set_ylim(0.3, len(bars) + 0.6)
    _title(panel, "Time against bare requests", "times as long")


def _profile(panel: Axes, known: Known) -> None:
    """Stages of the two syncs, stacked in seconds; small ones are in the rest."""
    syncs = {"trace list": "profile.sync.traces", "observations": "profile.sync.observations"}
    colours = _colours(known, syncs.values())
    for place, prefix in zip((2, 1), syncs.values(), strict=True):
        left = 0.0
        seconds = _seconds(known, prefix)
        for stage in [*colours, REST]:
            width = seconds.get(stage, 0.0) if stage != REST else sum(seconds.values()) - left
            panel.barh(
                place, width, left=left, color=colours.get(stage, GREY), height=0.5, label=stage if place == 2 else None
            )
            if width > 0.04 * sum(seconds.values()):
                panel.annotate(f"{width:.1f}", (left + width / 2, place), ha="center", va="center", fontsize=9.5)
            left += width
    panel.set_yticks((2, 1), list(syncs))
    panel.set_ylim(-0.9, 2.5)
    panel.tick_params(axis="y", length=0)
    panel.legend(loc="lower left", ncols=2, frameon=False, fontsize=9, handlelength=1, borderaxespad=0)
    _title(panel, "Where the time of a first sync goes", "seconds of the main thread, 40,000 traces")


def _colours(known: Known, prefixes: Iterable[str]) -> dict[str, str]:
    """A colour for the longest stages of all syncs together, phase by phase."""
    totals: Counter[str] = Counter()
    for prefix in prefixes:
        totals.update(_seconds(known, prefix))
    del totals[REST]
    shown = [stage for stage, _ in totals.most_common(STAGES_SHOWN)]
    colours = {}
    for phase, shades in HUES.items():
        stages = [stage for stage in shown if _hue(stage) == phase]
        colours.update({stage: shades[min(place, len(shades) - 1)] for place, stage in enumerate(stages)})
    return colours


def _hue(stage: str) -> str:
    phase = stage.partition(":")[0]
    return phase if phase in HUES else ""


def _seconds(known: Known, prefix: str) -> dict[str, float]:
    whole = known[prefix].value
    stages = {key.partition(":")[2]: figure.value for key, figure in known.items() if key.startswith(f"{prefix}:")}
    return {stage: share / 100 * whole for stage, share in stages.items()}


def _costs(panel: Axes, known: Known) -> None:
    bars = []
    for kind, rows, named in (("traces", 1, "trace list"), ("observations", 5, "5 observations")):
        decode, rate = known[f"costs.{kind}.decode"].value * rows, known[f"costs.{kind}.rate"].value
        record = known[f"costs.{kind}.collect"].value - rate
        parts = (("decode", decode), ("rate", rate), ("record", record))
        bars += [(f"{named}:\n{part}", value, f"{number(value)} µs", OURS) for part, value in parts]
    _bars(panel, bars)
    _title(panel, "What a trace costs, memory to SQLite", "microseconds a trace")


def _memory(panel: Axes, known: Known) -> None:
    """Curves by traces read, those of the list labelled above their ends; the horizontal line is the target."""
    for kind, colour, name, label_points in (
        ("traces", OURS, "trace list", -16),
        ("observations", THEIRS, "observations, 5 a trace", 7),
    ):
        for curve in (figure for key, figure in known.items() if key.startswith(f"memory.{kind}.") and figure.points):
            traces, megabytes = zip(*curve.points, strict=True)
            panel.plot(traces, megabytes, color=colour, linewidth=2, marker="o", markevery=[-1], label=name)
            end, above = (traces[-1], megabytes[-1]), (0, label_points)
            panel.annotate(
                _short(end[0]), end, above, textcoords="offset points", ha="center", color=colour, fontsize=9.5
            )
            panel.plot(end[0], curve.value, "o", color=colour, markerfacecolor="white")
            # One line of the legend stands for all sizes.
            name = "_" + name
    panel.axhline(PEAK_MEGABYTES_MAX, color=GREY, linewidth=1.5, linestyle="--")
    panel.text(0.01, PEAK_MEGABYTES_MAX + 3, "target", transform=panel.get_yaxis_transform(), fontsize=9.5)
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(lambda traces, _: _short(traces))
    panel.set_ylim(0, 1.3 * PEAK_MEGABYTES_MAX)
    panel.set_ylabel("MB resident", color=INK)
    panel.legend(loc="lower left", frameon=False)
    _title(
        panel,
        "Memory of a sync while it reads",
        "traces read, logarithmic; dot: end of reading; ring: peak of the run, marks included",
    )


def _short(traces: float) -> str:
    return f"{traces / 1e6:.0f} M" if traces >= 1e6 else f"{traces / 1e3:.0f} k"


def _growth(panel: Axes, known: Known) -> None:
    named = {
        "idle sync: 100,000\ntraces before / none": "growth.idle",
        "2,000 new: 100,000\ntraces before / none": "growth.new",
        "collect: 10,000\ncustomers / 10": "growth.customers",
        "send one: 10,000\ncustomers / 10": "growth.customers_send",
        "an observation:\nof 50 a trace / of 1": "growth.observations",
    }
    _bars(panel, [(label, known[key].value, known[key].text, OURS) for label, key in named.items()])
    panel.axvline(1, color=THEIRS, linewidth=1.5)
    panel.annotate("no growth", (1, 0.4), xytext=(4, 0), textcoords="offset points", color=THEIRS, fontsize=9.5)
    panel.set_ylim(0.2, len(named) + 0.6)
    _title(panel, "Cost of the largest against the smallest", "times as long")
