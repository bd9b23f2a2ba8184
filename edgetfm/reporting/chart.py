"""Size against latency against loss: every variant that was tried, in one drawing.

Across: the latency relative to fp32. Up: what is lost, in the measure that the budget names, on a
logarithmic scale where losses span more than a decade. The area of a dot is its size in bytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgetfm.budget import Budget
from edgetfm.errors import InputError
from edgetfm.parity import HIGHER_IS_BETTER
from edgetfm.reporting.chart_labels import Box, Disc, along, has_leader, place
from edgetfm.reporting.chart_svg import inline
from edgetfm.reporting.tried import Item, judged, metric_of, name_of
from edgetfm.reporting.words import size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = (
    360.0  # units, about the pixels of a phone's page: there a text of 11.5 units is 11.5 pixels
)
LEFT, RIGHT, BOTTOM, TOP = 52.0, 10.0, 46.0, 34.0  # margins around the axes
FONT = 11.5
LINE = 14.0  # the height of a line of text
LARGEST = 15.0  # radius of the largest dot
NO_LOSS = 1e-7  # of a cosine this is rounding

COLOURS = {
    "#000001": "var(--ink)",
    "#000002": "var(--soft)",
    "#000003": "var(--line)",
    "#000004": "var(--page)",
    "#000005": "var(--dot)",
    "#000006": "var(--bad)",
}
"""What is drawn with -> the page's colours, which differ in light and dark."""
INK, SOFT, RULE, PAGE, DOT, BAD = COLOURS

_AXES = {
    "cosine": "1 − cosine",
    "worst_cosine": "1 − worst cosine",
    "agreement": "1 − agreement",
    "kl": "KL divergence in nats",
    "perplexity": "rise of perplexity",
    "iou": "1 − IoU",
    "relative": "relative error",
    "max_error": "max error",
    "max_abs": "largest difference",
    "mean_abs": "mean difference",
}


@dataclass(frozen=True)
class Dot:
    """One variant: its latency over that of fp32, its loss, its size, and how it fared."""

    name: str
    latency: float
    loss: float
    bytes: int
    inside: bool
    chosen: bool

    def __str__(self) -> str:
        held = "inside the budget" if self.inside else "outside the budget"
        ships = ", ships" if self.chosen else ""
        return (
            f"{self.name}: {self.latency:.2f}x the time of fp32, loss {_number(self.loss)}, "
            f"{size(self.bytes)}, {held}{ships}"
        )


@dataclass(frozen=True)
class Chart:
    """The drawing as markup, the name of what is lost, and the variants it leaves out, with why."""

    svg: str
    loss: str
    left_out: tuple[str, ...] = ()


def draw(tried: Sequence[Item], *, budget: str, chosen: str) -> Chart | None:
    """The chart of what was tried; None if none of it was both timed and judged.

    budget: as in a manifest; its first measure is what is drawn. chosen: the name of what ships.
    Needs matplotlib; a ModuleNotFoundError without it. The same input gives the same markup.
    """
    title, limit, loss_of = _measure(budget, tried)
    dots, left_out = [], []
    for item in tried:
        name, latency, loss = _plain(name_of(item)), item.get("latency"), loss_of(item)
        if latency is None or loss is None or not math.isfinite(latency * loss):
            reason = "not timed" if latency is None else "without a finite loss"
            left_out.append(f"{name} ({reason})")
            continue
        inside = bool(item.get("inside"))
        dots.append(Dot(name, latency, loss, int(item["bytes"]), inside, name_of(item) == chosen))
    if not dots:
        return None
    return Chart(_svg(dots, title, limit), title, tuple(left_out))


def _plain(name: str) -> str:
    """The name without what XML has no place for."""
    return "".join(c if c.isprintable() else " " for c in name)


Loss = Callable[[Item], float | None]


def _measure(budget: str, tried: Sequence[Item]) -> tuple[str, float | None, Loss]:
    """What is lost, how much may be, and how a variant tells it."""
    try:
        bound = Budget.parse(budget)
    except InputError:
        return _AXES["cosine"], None, lambda item: _measured_loss(item, "cosine")
    metrics = [metric.name for metric in map(metric_of, tried) if metric]
    if bound.drop is not None and metrics:
        return f"share of {metrics[0]}", bound.drop, _metric_loss
    name, limit = bound.bounds[0] if bound.bounds else ("cosine", None)
    at = None if limit is None else _loss(name, limit)
    return _AXES[name], at, lambda item: _measured_loss(item, name)


def _loss(name: str, value: float) -> float:
    loss = 1 - value if HIGHER_IS_BETTER[name] else value
    return 0.0 if abs(loss) < NO_LOSS else max(loss, 0.0)


def _measured_loss(item: Item, name: str) -> float | None:
    """The loss in this measure; fp32 is what others are held to."""
    if name in judged(item):
        return _loss(name, float(judged(item)[name]))
    return 0.0 if item["precision"] == "fp32" else None


def _metric_loss(item: Item) -> float | None:
    if metric := metric_of(item):
        return metric.lost
    return 0.0 if item["precision"] == "fp32" else None


LONGEST = 28
"""Letters of a label: two such stand side by side."""


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1].rstrip()}…"


def _number(value: float) -> str:
    """Two digits, without an exponent where that is readable."""
    if 0 < value < 1e-4:
        digits, _, power = f"{value:.1e}".partition("e")
        return f"{digits.removesuffix('.0')}e{int(power)}"
    return f"{float(f'{value:.2g}'):g}"


# --- the drawing --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """Where a loss stands on the axis, and the ticks: positions and their texts."""

    at: Callable[[float], float]
    ticks: dict[float, str]
    low: float
    high: float


def _scale(losses: Sequence[float]) -> Scale:
    """Logarithmic where the losses span a decade; none at all then stands a step below."""
    some = [loss for loss in losses if loss > 0]
    if len(some) < 2 or max(some) < 10 * min(some):
        top = max([*some, 1e-9]) * 1.15
        return Scale(lambda loss: loss, {}, 0.0, top)
    low, high = math.floor(math.log10(min(some))), math.ceil(math.log10(max(some)) + 0.05)
    step = 1 + (high - low) // 6
    ticks = {float(d): _number(10.0**d) for d in range(low, high + 1, step)}
    if min(losses) == 0:
        ticks |= {low - 1.0: "0"}
    return Scale(
        lambda loss: math.log10(loss) if loss > 0 else low - 1.0, ticks, min(ticks), float(high)
    )


def _svg(dots: Sequence[Dot], title: str, limit: float | None) -> str:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    height = 300.0 + LINE * max(0, len(dots) - 5)
    file = io.StringIO()
    with mpl.rc_context():
        mpl.rcdefaults()  # what users set for their own figures is no matter here
        mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "edgetfm", "font.size": FONT})
        figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, facecolor="none")
        scale = _scale([dot.loss for dot in dots] + ([] if limit is None else [limit]))
        axes = _axes(figure, dots, scale, height, title)
        _dots(axes, dots, scale, limit, height)
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=nothing)
    said = {
        f"dot-{i}": (f"{'inside' if d.inside else 'outside'}{' chosen' * d.chosen}", str(d))
        for i, d in enumerate(dots)
    }
    budget = "" if limit is None else f" The budget is a loss of {_number(limit)}."
    description = f"{'. '.join(map(str, dots))}. Loss is {title}.{budget}"
    name = "Size, latency and loss of the variants tried"
    return inline(file.getvalue(), COLOURS, name, description, said)


def _axes(figure: Figure, dots: Sequence[Dot], scale: Scale, height: float, title: str) -> Axes:
    """Empty axes; what they show is written above and below them."""
    wide, high = WIDTH - LEFT - RIGHT, height - BOTTOM - TOP
    axes = figure.add_axes((LEFT / WIDTH, BOTTOM / height, wide / WIDTH, high / height))
    axes.set_facecolor("none")
    fastest, slowest = min(d.latency for d in dots), max(d.latency for d in dots)
    beside = 0.12 * (slowest - fastest) or 0.25 * slowest
    axes.set_xlim(fastest - beside, slowest + beside)
    margin = 0.09 * (scale.high - scale.low)
    axes.set_ylim(scale.low - margin, scale.high + margin / 2)
    if scale.ticks:
        axes.set_yticks(list(scale.ticks), list(scale.ticks.values()))
    else:
        axes.locator_params(axis="y", nbins=5)
        axes.yaxis.set_major_formatter(lambda value, _: _number(value))
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}x")
    axes.grid(color=RULE, linewidth=0.8, clip_on=False)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, pad=6, labelcolor=SOFT)
    words: dict[str, Any] = {"color": SOFT, "parse_math": False}
    figure.text(6 / WIDTH, 1 - 15 / height, f"loss: {title} (lower is better)", **words)
    words["horizontalalignment"] = "right"
    across = "time relative to fp32 (left is faster)"
    figure.text(1 - RIGHT / WIDTH, 6 / height, across, **words)
    return axes


def _dots(
    axes: Axes,
    dots: Sequence[Dot],
    scale: Scale,
    limit: float | None,
    height: float,
) -> None:
    """The dots, the largest first so that none is hidden; their labels; the budget."""

    def spot(latency: float, loss: float) -> tuple[float, float]:
        x, y = axes.transData.transform((latency, scale.at(loss)))
        return float(x), float(y)

    def words(x: float, y: float, text: str, colour: str, weight: str = "normal") -> None:
        at = axes.transData.inverted().transform((x, y))
        style: dict[str, Any] = {"color": colour, "weight": weight, "parse_math": False}
        axes.text(float(at[0]), float(at[1]), text, **style)

    largest = max(max(dot.bytes for dot in dots), 1)
    discs = []
    for dot in dots:
        radius = max(3.0, LARGEST * math.sqrt(dot.bytes / largest)) + 4.0 * dot.chosen
        discs.append(
            Disc(spot(dot.latency, dot.loss), radius, _width(_short(dot.name), dot.chosen), LINE)
        )
    area = Box(LEFT - 6, BOTTOM - 4, WIDTH - 4, height - TOP + 8)
    taken: list[Box] = []
    lines: list[float] = []
    if limit is not None:
        at = spot(0, limit)[1]
        axes.axhline(
            scale.at(limit), color=BAD, linestyle=(0, (5, 3)), linewidth=1.2, clip_on=False
        )
        text = f"budget {_number(limit)}"
        box = along(at, _width(text), LINE, area, [disc.box for disc in discs])
        words(box.left, box.bottom + 3.5, text, BAD)
        taken, lines = [box], [at]
    order = sorted(range(len(dots)), key=lambda i: (not dots[i].chosen, -dots[i].bytes))
    boxes = place([discs[i] for i in order], area, taken, lines)
    for number, box in zip(order, boxes, strict=True):
        dot, disc = dots[number], discs[number]
        if has_leader(box, disc):
            ends = axes.transData.inverted().transform([disc.at, box.nearest(disc.at)])
            axes.plot(ends[:, 0], ends[:, 1], color=SOFT, linewidth=0.8, clip_on=False, zorder=2)
        words(box.left, box.bottom + 3.5, _short(dot.name), INK, "bold" if dot.chosen else "normal")
    for number in sorted(range(len(dots)), key=lambda i: -dots[i].bytes):
        _dot(axes, dots[number], discs[number], scale, f"dot-{number}")


def _dot(axes: Axes, dot: Dot, disc: Disc, scale: Scale, name: str) -> None:
    """Filled inside the budget, hollow outside; a ring around what ships."""
    radii = [disc.radius - 4.0 * dot.chosen] + ([disc.radius] if dot.chosen else [])
    face, edge = (DOT, PAGE) if dot.inside else (PAGE, DOT)
    axes.scatter(
        [dot.latency] * len(radii),
        [scale.at(dot.loss)] * len(radii),
        s=[(2 * radius) ** 2 for radius in radii],
        facecolors=[face, "none"][: len(radii)],
        edgecolors=[edge, INK][: len(radii)],
        linewidths=[1.0 if dot.inside else 1.8, 1.6][: len(radii)],
        clip_on=False,
        zorder=3,
        gid=name,
    )


def _width(text: str, bold: bool = False) -> float:
    """The width of a text in matplotlib's own font, which is wider than the fonts of pages."""
    import warnings

    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=FONT, weight="bold" if bold else "normal")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that its font lacks; the page's may have it
        width, _, _ = text_to_path.get_text_width_height_descent(text, font, False)
    return float(width)
