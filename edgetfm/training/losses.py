"""What training makes small."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from edgetfm.training.objectives import IGNORED


def summed_loss(logits: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross entropy in nats, summed over the targets that count, in float32.

    logits: [..., classes]; targets: int64, IGNORED where nothing is learned.
    """
    return functional.cross_entropy(
        logits.flatten(0, -2).float(),
        targets.flatten(),
        ignore_index=IGNORED,
        label_smoothing=smoothing,
        reduction="sum",
    )


def right_answers(logits: Tensor, targets: Tensor) -> Tensor:
    """How many of the targets that count are the likeliest class."""
    return ((logits.argmax(-1) == targets) & (targets != IGNORED)).sum()
