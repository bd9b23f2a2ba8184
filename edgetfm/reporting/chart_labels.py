"""Where the labels of a chart go: beside their dots, and never on each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Point = tuple[float, float]

GAP = 3.0
_DISTANCES = (0, 6, 13, 21, 30, 42, 56, 75, 100, 130, 170)
_ANGLES = (0, 180, 90, 270, 35, 145, 325, 215, 65, 115, 295, 245)  # beside first, then around
_CROSSING = 45.0  # as bad as being that far away


class Box(NamedTuple):
    """A rectangle that stands upright."""

    left: float
    bottom: float
    right: float
    top: float

    def touches(self, other: Box) -> bool:
        """Whether they share more than an edge."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )

    def within(self, other: Box) -> bool:
        """Whether no part is outside."""
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.bottom <= self.bottom
            and self.top <= other.top
        )

    def nearest(self, point: Point) -> Point:
        """The point of the box that is nearest to another."""
        return (
            min(max(point[0], self.left), self.right),
            min(max(point[1], self.bottom), self.top),
        )


@dataclass(frozen=True)
class Disc:
    """A dot, and the width and height of the label it wants."""

    at: Point
    radius: float
    width: float
    height: float

    @property
    def box(self) -> Box:
        """What it covers."""
        x, y, r = *self.at, self.radius
        return Box(x - r, y - r, x + r, y + r)


def place(
    discs: Sequence[Disc], area: Box, taken: Iterable[Box] = (), lines: Sequence[float] = ()
) -> list[Box]:
    """A box for the label of each disc, inside `area`, on no other label and no disc.

    taken: boxes that are in use. lines: heights of horizontal lines that labels should not lie
    on, if another place is as near. The nearest free place is taken, discs in their order; where
    the area is full, labels overlap.
    """
    obstacles = [disc.box for disc in discs]
    placed = list(taken)
    boxes = []
    for disc in discs:
        taken_now = [*obstacles, *placed]
        around = [_beside(disc, gap, angle) for gap in _DISTANCES for angle in _ANGLES]
        free = _free(around, area, taken_now) or _free(_everywhere(disc, area), area, taken_now)
        costs = [
            round(_cost(box, disc, obstacles, lines) / GAP) for box in free
        ]  # of a tie the first
        box = free[costs.index(min(costs))] if free else _beside(disc, 0.0, 0)
        placed.append(box)
        boxes.append(box)
    return boxes


def along(line: float, width: float, height: float, area: Box, taken: Iterable[Box]) -> Box:
    """A box on or under a horizontal line, as far right as nothing that is `taken` is touched."""
    obstacles = list(taken)
    lowest = [y for y in (line, line - height) if area.bottom <= y <= area.top - height] or [line]
    rightmost = area.right - width
    for step in range(max(1, int((rightmost - area.left) / 6))):
        for bottom in lowest:
            left = rightmost - 6 * step
            box = Box(left, bottom, left + width, bottom + height)
            if not any(box.touches(other) for other in obstacles):
                return box
    return Box(rightmost, lowest[0], area.right, lowest[0] + height)


def _free(boxes: Iterable[Box], area: Box, taken: Sequence[Box]) -> list[Box]:
    return [b for b in boxes if b.within(area) and not any(b.touches(t) for t in taken)]


def _beside(disc: Disc, gap: float, angle: int) -> Box:
    """The label at this distance from its disc, in the direction of `angle` (degrees)."""
    x, y = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    far = disc.radius + GAP + gap
    centre_x = disc.at[0] + x * (far + disc.width / 2)
    centre_y = disc.at[1] + y * (far + disc.height / 2)
    left, bottom = centre_x - disc.width / 2, centre_y - disc.height / 2
    return Box(left, bottom, left + disc.width, bottom + disc.height)


def _everywhere(disc: Disc, area: Box) -> Iterator[Box]:
    """Every place of a grid as fine as half a line."""
    rows = int((area.top - area.bottom) / (disc.height / 2))
    columns = int((area.right - area.left) / 12)
    for row in range(rows):
        for column in range(columns):
            left, bottom = area.left + 12 * column, area.bottom + disc.height / 2 * row
            yield Box(left, bottom, left + disc.width, bottom + disc.height)


def _cost(box: Box, disc: Disc, discs: Sequence[Box], lines: Sequence[float]) -> float:
    """The length of the leader from disc to label, and what it or the label lies on."""
    cost = math.dist(box.nearest(disc.at), disc.at)
    cost += _CROSSING * sum(box.bottom < line < box.top for line in lines)
    if has_leader(box, disc):
        start, end = disc.at, box.nearest(disc.at)
        for other in discs:
            middle = ((other.left + other.right) / 2, (other.bottom + other.top) / 2)
            if other != disc.box and _passes(start, end, middle, (other.right - other.left) / 2):
                cost += _CROSSING
    return cost


def has_leader(box: Box, disc: Disc) -> bool:
    """Whether a label is so far from its disc that a line must join them."""
    return math.dist(box.nearest(disc.at), disc.at) > disc.radius + 2.5 * GAP


def _passes(start: Point, end: Point, centre: Point, radius: float) -> bool:
    """Whether the line from `start` to `end` comes nearer to `centre` than `radius`."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = dx * dx + dy * dy
    along = ((centre[0] - start[0]) * dx + (centre[1] - start[1]) * dy) / length if length else 0.0
    along = min(max(along, 0.0), 1.0)
    return math.dist((start[0] + along * dx, start[1] + along * dy), centre) < radius
