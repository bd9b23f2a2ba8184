"""The learning rate over a run, as the share of its largest value."""

from __future__ import annotations

import math
from collections.abc import Callable


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """The factor at `step` of `steps`: up in a line over a share of `warmup`, down a cosine.

    Loshchilov and Hutter 2016, https://arxiv.org/abs/1608.03983.
    """
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def noam(step: int, steps: int, warmup: float) -> float:
    """Up in a line, then down as 1 / sqrt(step), and not to zero.

    Vaswani et al. 2017, https://arxiv.org/abs/1706.03762: d^-0.5 min(n^-0.5, n w^-1.5) at step n
    with w of them rising, divided by what it is at its top, (d w)^-0.5. That top is what
    `learning_rate` says.
    """
    rising = max(1, round(steps * warmup))
    return min(math.sqrt(rising / (step + 1)), (step + 1) / rising)


def constant(step: int, steps: int, warmup: float) -> float:
    """Up in a line, then as it is."""
    return min(1.0, (step + 1) / max(1, round(steps * warmup)))


SCHEDULES: dict[str, Callable[[int, int, float], float]] = {
    "cosine": warmup_cosine,
    "noam": noam,
    "constant": constant,
}
"""The schedules by name: (step, steps, share of warming up) -> factor."""
