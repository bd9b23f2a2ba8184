"""How much answers may differ: bounds on measures, as text and as a value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np

from edgetfm.errors import InputError
from edgetfm.parity import HIGHER_IS_BETTER, Measures

FLOAT_BOUND = "max_error:1e-5"
"""What a float32 graph may differ from PyTorch: rounding in another order, nothing else."""


def is_bound(output: str, bound_on: str) -> bool:
    """Whether a bound on `bound_on` (names with commas between, '' is all) is on this output."""
    return not bound_on or output in bound_on.split(",")


@dataclass(frozen=True)
class Budget:
    """How much may be lost, by measure: `cosine:0.995,worst_cosine:0.99`.

    drop: what share of the task's own metric may be lost, written `1%`; None binds no metric.
    """

    bounds: tuple[tuple[str, float], ...]
    drop: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """The budget written as `measure:bound` or `percent%`, several separated by commas.

        Raises InputError if it is none.
        """
        bounds: list[tuple[str, float]] = []
        drop = None
        for part in (part.strip() for part in text.split(",")):
            if part.endswith("%"):
                drop = _percent(part)
            else:
                bounds.append(_bound(part))
        return cls(tuple(bounds), drop)

    @classmethod
    def of_text(cls, text: str) -> Self:
        """The same, and '' is the budget that binds nothing."""
        return cls.parse(text) if text else cls(())

    @property
    def of_answers(self) -> str:
        """The part about answers, as text; it holds without labelled data. '' if there is none."""
        return str(Budget(self.bounds))

    def misses(self, measures: Measures) -> list[str]:
        """Each bound that does not hold, in words. A measure the output lacks binds nothing."""
        missed = []
        for name, bound in self.bounds:
            value = getattr(measures, name)
            if value is None:
                continue
            held = value >= bound if HIGHER_IS_BETTER[name] else value <= bound
            if not held:  # NaN holds nothing
                sign = "<" if HIGHER_IS_BETTER[name] else ">"
                missed.append(f"{name} {value:.6g} {sign} {_plain(bound)}")
        return missed

    def use(self, measures: Iterable[Measures]) -> float:
        """How much of the budget these answers use up: 0 is nothing, 1 all of it, more is outside.

        For cosine:0.995 a cosine of 0.9975 is half. The largest over outputs and bounds.
        """
        used = [0.0]
        for measured in measures:
            for name, bound in self.bounds:
                value = getattr(measured, name)
                if value is not None:
                    lost, allowed = (
                        (1 - value, 1 - bound) if HIGHER_IS_BETTER[name] else (value, bound)
                    )
                    share = lost / allowed if allowed else (0.0 if lost <= 0 else np.inf)
                    used.append(np.inf if np.isnan(share) else max(0.0, share))
        return float(max(used))

    def __str__(self) -> str:
        parts = [f"{name}:{_plain(bound)}" for name, bound in self.bounds]
        if self.drop is not None:
            parts.append(f"{_plain(round(100 * self.drop, 10))}%")
        return ",".join(parts)


def _percent(part: str) -> float:
    try:
        share = float(part[:-1]) / 100
    except ValueError:
        share = float("nan")
    if not 0 <= share < 1:
        raise InputError(
            f"'{part}' is not a budget: write 1% for a share of the metric that --eval measures, "
            "and a number for a measure of the answers, cosine:0.99"
        )
    return share


def _bound(part: str) -> tuple[str, float]:
    name, colon, value = part.partition(":")
    try:
        bound = float(value)
    except ValueError:
        bound = float("nan")
    if not colon or name not in HIGHER_IS_BETTER or not np.isfinite(bound):
        raise InputError(
            f"'{part}' is not a budget: write measure:bound, for example cosine:0.995 "
            f"(measures: {', '.join(HIGHER_IS_BETTER)}), or 1% of the metric that --eval measures"
        )
    if (bound > 1.0) if HIGHER_IS_BETTER[name] else (bound < 0.0):
        side = "at most 1" if HIGHER_IS_BETTER[name] else "at least 0"
        raise InputError(f"the bound of {name} is {side}, got '{part}'")
    return name, bound


def _plain(number: float) -> str:
    return repr(float(number)).removesuffix(".0")  # every digit: 0.9999999 is not 1
