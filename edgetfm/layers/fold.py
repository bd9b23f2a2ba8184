"""What a graph need not compute again and again: constants moved into weights before export."""

from __future__ import annotations

from torch import nn

from edgetfm.layers.attention import fold_scales
from edgetfm.layers.residual_stem import Convolution


def fold(module: nn.Module) -> None:
    """Fold attentions' scales and stems' norms; the outputs stay the same up to rounding."""
    fold_scales(module)
    for part in list(module.modules()):
        if isinstance(part, Convolution):
            part.fold_norm()
