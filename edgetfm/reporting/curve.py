"""How a training went, as a page: the losses along the steps, and what each epoch came to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 640.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 14.0, 16.0, 40.0
"""Margins around the axes, in units of the drawing."""

Point = tuple[float, float]
"""A step and a loss."""


def training_page(title: str, metrics: Mapping[str, Any]) -> str:
    """The page of a run, of what metrics.json says of it. The same input gives the same page."""
    from edgetfm.reporting.report import page_environment

    long = ("curve", "losses", "config", "data", "versions")
    epochs: list[dict[str, Any]] = metrics["curve"]
    columns = list(dict.fromkeys(name for epoch in epochs for name in epoch))
    return (
        page_environment(html=True)
        .get_template("training.html.j2")
        .render(
            title=title,
            complete=metrics["complete"],
            chart=curve_svg(metrics["losses"], epochs),
            facts={k: _shown(v) for k, v in metrics.items() if k not in long},
            columns=columns,
            epochs=[[_shown(epoch.get(name, "")) for name in columns] for epoch in epochs],
            best=metrics["best_epoch"],
            config={k: v for k, v in metrics["config"].items() if v not in (None, "", {}, [])},
            data=metrics["data"],
        )
    )


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def curve_svg(losses: Sequence[Sequence[float]], epochs: Sequence[Mapping[str, Any]]) -> str:
    """The losses of batches as a line and those of validation as dots, as part of a page.

    losses: (step, loss). epochs: with step and validation_loss. '' if there is nothing to draw.
    Losses are on a logarithmic scale where they span more than a decade.
    """
    line = [(float(s), float(v)) for s, v in losses if math.isfinite(v)]
    dots = [(float(e["step"]), float(e["validation_loss"])) for e in epochs]
    points = [*line, *dots]
    if len(points) < 2:
        return ""
    low, high = min(v for _, v in points), max(v for _, v in points)
    decades = low > 0 and high / low > 10
    place = _Places(max(1.0, *(s for s, _ in points)), low, high, decades)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" '
        'aria-labelledby="curve-title">',
        f'<title id="curve-title">{escape(_says(line, dots))}</title>',
    ]
    for value in _ticks(low, high, decades):
        y = place.up(value)
        parts.append(
            f'<line x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="var(--line)"/><text x="{LEFT - 8:g}" y="{y + 4:.1f}" font-size="12" '
            f'text-anchor="end" fill="var(--soft)">{value:.3g}</text>'
        )
    for share, anchor in ((0.0, "start"), (1.0, "end")):
        step = share * place.steps
        parts.append(
            f'<text x="{place.across(step):.1f}" y="{HEIGHT - BOTTOM + 18:g}" font-size="12" '
            f'text-anchor="{anchor}" fill="var(--soft)">{step:g}</text>'
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(
        f'<text x="{middle:g}" y="{HEIGHT - 6:g}" font-size="12" text-anchor="middle" '
        'fill="var(--soft)">steps</text>'
    )
    if line:
        path = " ".join(f"{place.across(s):.1f},{place.up(v):.1f}" for s, v in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="var(--dot)"/>')
    for step, value in dots:
        parts.append(
            f'<circle cx="{place.across(step):.1f}" cy="{place.up(value):.1f}" r="3.5" '
            f'fill="var(--good)"><title>validation {value:.4g}</title></circle>'
        )
    return "".join([*parts, "</svg>"])


class _Places:
    """Where a step and a loss are in the drawing."""

    def __init__(self, steps: float, low: float, high: float, decades: bool) -> None:
        self.steps, self._decades = steps, decades
        self._low, self._high = self._scaled(low), self._scaled(high)

    def across(self, step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / self.steps

    def up(self, loss: float) -> float:
        share = (self._scaled(loss) - self._low) / (self._high - self._low or 1.0)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    def _scaled(self, loss: float) -> float:
        return math.log(loss) if self._decades else loss


def _ticks(low: float, high: float, decades: bool) -> list[float]:
    """Five losses to write beside the axis, from the lowest to the highest."""
    if decades:
        return [low * (high / low) ** (i / 4) for i in range(5)]
    return [low + (high - low) * i / 4 for i in range(5)] if high > low else [low]


def _says(line: Sequence[Point], dots: Sequence[Point]) -> str:
    """The drawing in words, for those who do not see it."""
    said = []
    if line:
        said.append(f"the loss of a batch from {line[0][1]:.4g} to {line[-1][1]:.4g}")
    if dots:
        best = min(value for _, value in dots)
        said.append(f"on the validation part {best:.4g} at best")
    return ", ".join(said)
