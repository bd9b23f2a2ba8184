"""The size that a picture is resized to: a few rules, by which transformers' processors go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self


@dataclass(frozen=True)
class Resize:
    """A rule for sizes: called with a picture's height and width it gives those to resize to.

    mode: `exact` is `size` whatever the aspect ratio; `shortest_edge` makes the shorter edge
    `edge` long, or less so that the longer one is at most `longest`; `fit` makes one side that of
    `size`, the one that changes less; `multiple` and `none` leave a picture as large as it is.
    multiple: both sides become multiples of it: the nearest for `fit`, else the next smaller one.
    """

    mode: str
    size: tuple[int, int] = (1, 1)
    edge: int = 1
    longest: int | None = None
    multiple: int = 1

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], size: Sequence[Any]) -> Self:
        """The rule in a manifest; `size` is that of its pictures, for a rule without one."""
        mode = str(settings.get("mode", "none"))
        size = settings.get("size", size)
        longest = settings.get("longest")
        return cls(
            mode,
            (int(size[0]), int(size[1])),
            int(settings["edge"] if mode == "shortest_edge" else 1),
            None if longest is None else int(longest),
            int(settings.get("multiple", 1)),
        )

    def scaled(self, share: float) -> Self:
        """The same rule for pictures of this share of the size."""
        height, width = (max(1, round(side * share)) for side in self.size)
        longest = None if self.longest is None else max(1, round(self.longest * share))
        edge = max(1, round(self.edge * share))
        return replace(self, size=(height, width), edge=edge, longest=longest)

    @property
    def numbers(self) -> tuple[int, ...]:
        """All that have to be 1 or more."""
        longest = () if self.longest is None else (self.longest,)
        return (*self.size, self.edge, self.multiple, *longest)

    def __call__(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) to resize to."""
        return MODES[self.mode](self, height, width)


def _shortest_edge(rule: Resize, height: int, width: int) -> tuple[int, int]:
    """As transformers rounds: a long picture's longer side is not made of the rounded edge."""
    short, long = sorted((height, width))
    edge, wanted = rule.edge, float(rule.edge)
    if rule.longest is not None and long / short * edge > rule.longest:
        wanted = rule.longest * short / long
        edge = round(wanted)
    scaled = int(wanted * long / short)
    if short == edge:
        scaled = long
    sides = (edge, scaled) if height <= width else (scaled, edge)
    return _down(sides[0], rule.multiple), _down(sides[1], rule.multiple)


def _fit(rule: Resize, height: int, width: int) -> tuple[int, int]:
    scales = rule.size[0] / height, rule.size[1] / width
    scale = scales[1] if abs(1 - scales[1]) < abs(1 - scales[0]) else scales[0]
    height, width = (
        round(scale * side / rule.multiple) * rule.multiple for side in (height, width)
    )
    return height, width


def _down(side: int, multiple: int) -> int:
    return side - side % multiple


MODES: dict[str, Callable[[Resize, int, int], tuple[int, int]]] = {
    "exact": lambda rule, _height, _width: rule.size,
    "shortest_edge": _shortest_edge,
    "fit": _fit,
    "multiple": lambda rule, height, width: (
        _down(height, rule.multiple),
        _down(width, rule.multiple),
    ),
    "none": lambda _rule, height, width: (height, width),
}
