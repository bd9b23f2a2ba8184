"""The heads of text encoders: what a task makes of hidden states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgetfm.layers.feed_forward import ACTIVATIONS
from edgetfm.layers.linear import Linear


class TokenDecoder(nn.Module):
    """Hidden states to logits over the vocabulary, by the table of the embeddings if tied."""

    def __init__(
        self, width: int, vocabulary: int, activation: str, *, eps: float, tied: bool
    ) -> None:
        super().__init__()
        self.dense = Linear(width, width)
        self.activation = ACTIVATIONS[activation]
        self.norm = nn.LayerNorm(width, eps=eps)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        if not tied:
            self.decoder = Linear(width, vocabulary, bias=False)
        self.tied = tied

    def forward(self, hidden: Tensor, words: Tensor) -> Tensor:
        """`words` is the table of the embeddings, [vocabulary, width]."""
        x = self.norm(self.activation(self.dense(hidden)))
        weight = words.t() if self.tied else self.decoder.weight
        return torch.matmul(x, weight) + self.bias


class TextClassifier(nn.Module):
    """A text's first token through two layers: [batch, labels]."""

    def __init__(self, width: int, labels: int, activation: str, *, dropout: float) -> None:
        super().__init__()
        self.dense = Linear(width, width)
        self.activation = ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)
        self.out = Linear(width, labels)

    def forward(self, first: Tensor) -> Tensor:
        """[batch, width] in."""
        x = self.activation(self.dense(first))
        out: Tensor = self.out(self.dropout(x))
        return out


class TokenClassifier(nn.Module):
    """Every token through one layer: [batch, sequence, outputs]."""

    def __init__(self, width: int, outputs: int, *, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.out = Linear(width, outputs)

    def forward(self, hidden: Tensor) -> Tensor:
        """[batch, sequence, width] in."""
        out: Tensor = self.out(self.dropout(hidden))
        return out
