"""How far a bundle's answers are from PyTorch's on each device, in one drawing.

Across: 1 - cosine, the worst output's mean, by decades. A row is a variant on a device: the dot
is its distance to PyTorch, the ring that to its own answers on the exporting CPU. Devices that
round alike have their dots under each other; one that computes wrong stands out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from edgetfm.budget import Budget
from edgetfm.ledger import Ledger, Rung

WIDTH, RIGHT, TOP, ROW, BOTTOM = 400.0, 18.0, 24.0, 24.0, 44.0
"""Units, about pixels of a phone's page: margins around the axes, and the height of a row."""
NOTHING = 1e-7
"""Distances below it are the rounding of the cosine itself: they stand at the left end."""
OWN = "the exporting CPU"
LONGEST, LETTER = 22, 6.6
"""Letters of a name that stand beside the axes, and about how wide one is."""


@dataclass(frozen=True)
class Spot:
    """A variant on a device: its distances, None where nothing was compared, and how it fared."""

    name: str
    to_oracle: float | None
    to_itself: float | None
    passed: bool

    def __str__(self) -> str:
        parts = [self.name]
        parts += [] if self.to_oracle is None else [f"{self.to_oracle:.1e} from PyTorch"]
        parts += [] if self.to_itself is None else [f"{self.to_itself:.1e} from itself"]
        return ", ".join(parts if self.passed else [*parts, "outside its bounds"])


def spots(ledger: Ledger) -> list[Spot]:
    """A row for each variant on each device whose answers were compared."""
    several = len({said["precision"] for said in ledger.devices}) > 1
    found = []
    for said in ledger.devices:
        rungs = [r for r in ledger.rungs if r.name == f"{said['precision']} on {said['device']}"]
        if rungs:
            name = f"{said['device']}, {said['precision']}" if several else str(said["device"])
            oracle = _distance([r for r in rungs if r.against != OWN])
            own = _distance([r for r in rungs if r.against == OWN])
            if oracle is not None or own is not None:
                found.append(Spot(name, oracle, own, all(r.passed for r in rungs)))
    return found


def _distance(rungs: Sequence[Rung]) -> float | None:
    """1 - the lowest cosine of an output; what is no number is as far as can be."""
    cosines = [m.cosine for r in rungs for m in r.measures.values()]
    if not cosines:
        return None
    return max(NOTHING, *(1 - c if math.isfinite(c) else 2.0 for c in cosines))


def draw_devices(rows: Sequence[Spot], budget: str) -> str:
    """The drawing as markup for a page; '' if there is nothing to draw.

    budget: as in a manifest; where it binds the cosine, a line shows how far it allows.
    """
    distances = [d for row in rows for d in (row.to_oracle, row.to_itself) if d is not None]
    if not distances:
        return ""
    bounds = [bound for name, bound in Budget.of_text(budget).bounds if name == "cosine"]
    limit = max(NOTHING, 1 - max(bounds, default=1.0))
    low, high = math.log10(NOTHING), math.ceil(math.log10(max(*distances, limit, 1e-5)) + 0.1)

    left = 18 + LETTER * min(LONGEST, max(len(row.name) for row in rows))

    def across(distance: float) -> float:
        share = (math.log10(distance) - low) / (high - low)
        return left + (WIDTH - left - RIGHT) * share

    height = TOP + ROW * len(rows) + BOTTOM
    foot = height - BOTTOM + 6
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH:g} {height:g}" role="img" '
        'aria-labelledby="devices-title">',
        f'<title id="devices-title">{escape(". ".join(map(str, rows)))}</title>',
    ]
    for power in range(round(low), high + 1):
        x = across(10.0**power)
        parts.append(_rule(x, TOP - 8, x, foot, "var(--line)"))
        said = f"1e{power}" if power > low else "0"
        parts.append(_text(x, foot + 14, said, "middle", "var(--soft)"))
    across_is = "1 − cosine (left is closer)"
    parts.append(_text(WIDTH - RIGHT, foot + 32, across_is, "end", "var(--soft)"))
    if limit > NOTHING:
        x = across(limit)
        parts.append(_rule(x, TOP - 8, x, foot, "var(--bad)", ' stroke-dasharray="5 3"'))
        said = f"budget {limit:.2g}"
        end = min(max(x + 6, LETTER * len(said)), WIDTH)
        parts.append(_text(end, TOP - 12, said, "end", "var(--bad)"))
    for number, row in enumerate(rows):
        parts += _row(row, TOP + ROW * (number + 0.5), across)
    return "".join([*parts, "</svg>"])


def _row(row: Spot, y: float, across: Callable[[float], float]) -> list[str]:
    """The name, the dot, the ring, and a line that joins them."""
    ends = [across(d) for d in (row.to_oracle, row.to_itself) if d is not None]
    colour = "var(--dot)" if row.passed else "var(--bad)"
    name = row.name if len(row.name) <= LONGEST else f"{row.name[: LONGEST - 1]}…"
    parts = [
        _text(across(NOTHING) - 12, y + 4, name, "end", "var(--ink)" if row.passed else colour)
    ]
    parts.append(_rule(min(ends), y, max(ends), y, colour))
    if row.to_itself is not None:
        x = across(row.to_itself)
        style = f'fill="var(--page)" stroke="{colour}" stroke-width="1.8"'
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" {style}/>')
    if row.to_oracle is not None:
        x = across(row.to_oracle)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
    return parts


def _rule(x: float, y: float, to_x: float, to_y: float, colour: str, more: str = "") -> str:
    ends = f'x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"'
    return f'<line {ends} stroke="{colour}"{more}/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str) -> str:
    at = f'x="{x:.1f}" y="{y:.1f}" font-size="12" text-anchor="{anchor}"'
    return f'<text {at} fill="{colour}">{escape(text)}</text>'
