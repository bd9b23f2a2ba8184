"""The learning rate over a run."""

from __future__ import annotations

import math


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """The factor at `step` of `steps`: up in a line over a share of `warmup`, down a cosine.

    Loshchilov and Hutter 2016, https://arxiv.org/abs/1608.03983.
    """
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1.0 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
