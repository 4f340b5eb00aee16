"""The scheduler's pictures: transparent, in colours that can be read on white and on black."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bench.load import HOUR, MODELS
from bench.simulation import Stretch

INK = "#7d8590"
POLICIES = {"arrival": "#d1495b", "most work": "#d99b26", "plan": "#2f8fd0"}
HUES = ("#2f8fd0", "#3aa76d", "#d99b26", "#d1495b", "#9b6dd0", "#b5651d")
COLOURS: dict[int | None, str] = {None: "#c2579a"}
COLOURS.update(zip(MODELS, HUES, strict=True))
NAMES: dict[int | None, str] = {None: "training"}
NAMES.update((model_id, facts.name) for model_id, facts in MODELS.items())
STYLE: Any = {
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "scheduler",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
PIXEL = 30  # seconds of the strip
TAIL = 20  # of the longest waits, each is drawn; of the others so many, evenly spread
POINTS = 100


def draw_times(path: Path, hours: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Scenario -> policy -> the hours of each seed."""

    def draw(axes: Axes) -> None:
        for row, policies in enumerate(hours.values()):
            for policy, values in policies.items():
                place = row + (list(POLICIES).index(policy) - 1) * 0.26
                box = axes.boxplot([values], positions=[place], orientation="horizontal", widths=0.2, whis=(0, 100))
                for line in (*box["boxes"], *box["whiskers"], *box["caps"], *box["medians"]):
                    line.set_color(POLICIES[policy])
        axes.set_yticks(range(len(hours)), labels=list(hours))
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel("hours in which the device worked or switched: least, quartiles and most of the seeds")
        _legend(axes, POLICIES)

    _save(path, 3.2, draw)


def draw_waits(path: Path, waits: Mapping[str, Sequence[float]], staleness: float) -> None:
    """Policy -> the seconds that jobs waited for their turn."""

    def draw(axes: Axes) -> None:
        for policy, values in waits.items():
            ordered = sorted(values, reverse=True)
            ranks = [*range(TAIL), *range(TAIL, len(ordered), max(len(ordered) // POINTS, 1))]
            hours = [ordered[rank] / HOUR for rank in ranks]
            axes.plot(hours, [(rank + 1) / len(ordered) for rank in ranks], color=POLICIES[policy])
        axes.axvline(staleness / HOUR, color=INK, linestyle=":")
        axes.annotate("bound", (staleness / HOUR, 0.5), xytext=(4, 0), textcoords="offset points")
        axes.set_yscale("log")
        axes.set_xlim(left=0)
        axes.set_xlabel("hours")
        axes.set_ylabel("share of jobs that wait longer")
        _legend(axes, POLICIES)

    _save(path, 3.0, draw)


def draw_day(path: Path, strips: Mapping[str, Sequence[Stretch]]) -> None:
    """Policy -> what the device did."""
    end = max(strip[-1].end for strip in strips.values())

    def draw(axes: Axes) -> None:
        rows = [_pixels(strip, end) for strip in strips.values()]
        axes.imshow(rows, aspect="auto", interpolation="nearest", extent=(0, end / HOUR, len(rows) - 0.5, -0.5))
        for row in range(1, len(rows)):
            axes.axhline(row - 0.5, color=INK, linewidth=0.8)
        axes.set_yticks(range(len(strips)), labels=list(strips))
        axes.set_xlabel("hours")
        names = {NAMES[model_id]: colour for model_id, colour in COLOURS.items()}
        _legend(axes, {**names, "switch": INK})

    _save(path, 2.4, draw)


def _pixels(strip: Sequence[Stretch], end: float) -> list[tuple[float, float, float, float]]:
    """A colour for every half minute; none where nothing was done."""
    row = [(0.0, 0.0, 0.0, 0.0)] * (int(end / PIXEL) + 1)
    for one in strip:
        colour = to_rgba(INK if one.switch else COLOURS[one.model_id])
        for pixel in range(round(one.begin / PIXEL), round(one.end / PIXEL)):
            row[pixel] = colour
    return row


def _legend(axes: Axes, colours: Mapping[str, str]) -> None:
    patches = [Patch(color=colour, label=name) for name, colour in colours.items()]
    axes.legend(handles=patches, ncols=len(patches), frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))


def _save(path: Path, inches: float, draw: Callable[[Axes], None]) -> None:
    with rc_context(STYLE):
        figure = Figure(figsize=(8, inches), layout="constrained")
        draw(figure.subplots())
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, transparent=True, metadata={"Date": None})
