"""What decoder-only families share: the tensors of their graphs, and their way through them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from edgetfm.layers.grouped_query import Cache, Timeline
from edgetfm.layers.linear import Linear
from edgetfm.layers.parts import around, make_norm
from edgetfm.layers.rotary import Rotary
from edgetfm.signature import KEEP, PAST, PRESENT, TensorSpec


class CacheSizes(Protocol):
    """The sizes of a decoder that its inputs and outputs show."""

    @property
    def vocabulary(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_size(self) -> int: ...


def decoder_inputs(c: CacheSizes, task: str) -> tuple[TensorSpec, ...]:
    """The tokens of a step, which of all tokens so far are real, and what was kept of the past."""
    return (
        TensorSpec("input_ids", "int64", ("batch", "sequence")),
        TensorSpec("attention_mask", "int64", ("batch", "total_sequence")),
        *_caches(c, PAST, "past_sequence"),
        TensorSpec(KEEP, "int64", ()),
    )


def decoder_outputs(c: CacheSizes, task: str) -> tuple[TensorSpec, ...]:
    """Logits of the tokens that were asked for, and the past of the next step."""
    return (
        TensorSpec("logits", "float32", ("batch", "kept", c.vocabulary)),
        *_caches(c, PRESENT, "total_sequence"),
    )


def _caches(c: CacheSizes, prefix: str, length: str) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(f"{prefix}{i}.{part}", "float32", ("batch", c.kv_heads, length, c.head_size))
        for i in range(c.layers)
        for part in ("key", "value")
    )


def cache_of(c: Any) -> dict[str, Any]:
    """What a manifest says of a decoder's cache."""
    return {
        "context": c.context,
        "vocabulary": c.vocabulary,
        "width": c.width,
        "heads": c.heads,
        "layers": c.layers,
        "kv_heads": c.kv_heads,
        "head_size": c.head_size,
        "window": c.sees,
    }


def _past_of(tensors: Mapping[str, Tensor] | None, c: CacheSizes, input_ids: Tensor) -> list[Cache]:
    """The cache of each layer, empty ones beside the tokens where none is given."""
    if tensors is None:
        nothing = torch.zeros(len(input_ids), c.kv_heads, 0, c.head_size, device=input_ids.device)
        return [(nothing, nothing)] * c.layers
    return [(tensors[f"{i}.key"], tensors[f"{i}.value"]) for i in range(c.layers)]


def _answer(logits: Tensor, presents: list[Cache]) -> dict[str, Tensor]:
    """The outputs by name."""
    named = {"logits": logits}
    for i, (key, value) in enumerate(presents):
        named |= {f"{PRESENT}{i}.key": key, f"{PRESENT}{i}.value": value}
    return named


def kept_rows(x: Tensor, timeline: Timeline, num_logits_to_keep: Tensor | None) -> Tensor:
    """The hidden states [batch, kept, width] of the tokens that get logits; None is all."""
    if num_logits_to_keep is None:
        return x
    batch, sequence, width = x.shape
    places = timeline.kept(sequence, num_logits_to_keep)
    rows = places + torch.arange(batch, device=x.device)[:, None] * sequence
    return nn.functional.embedding(rows, x.reshape(batch * sequence, width))


class CausalLayer(nn.Module):
    """Attention to what was before and feed-forward, each added, normalized before or after.

    c: has the words `norm` and `norm_place` of edgetfm.layers.parts, width, eps and dropout.
    """

    def __init__(self, c: Any, attention: nn.Module, feed_forward: nn.Module) -> None:
        super().__init__()
        self.place = c.norm_place
        self.attention_norm = make_norm(c.norm, c.width, c.eps)
        self.attention = attention
        self.feed_forward_norm = make_norm(c.norm, c.width, c.eps)
        self.feed_forward = feed_forward
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, *given: Any) -> tuple[Tensor, Any]:
        """`x` is [batch, sequence, width]; the attention takes what is given beside it.

        Out comes what a later step is given, too.
        """
        present = None

        def attention(taken: Tensor) -> Tensor:
            nonlocal present
            mixed: Tensor
            mixed, present = self.attention(taken, *given)
            return mixed

        x = around(x, attention, self.attention_norm, self.place, self.dropout)
        x = around(x, self.feed_forward, self.feed_forward_norm, self.place, self.dropout)
        return x, present


class CausalModel(nn.Module):
    """The decoder with its head: tokens and a past to logits and a longer past.

    c: has the sizes of a decoder, and `tied`, whether its head is its table of words. A family
    adds the layers, the norm behind them, the head, and the tables by which queries turn.
    """

    layers: nn.ModuleList
    norm: nn.Module
    cos: Tensor
    sin: Tensor

    def __init__(self, c: Any) -> None:
        super().__init__()
        self.config = c
        self.words = nn.Embedding(c.vocabulary, c.width)

    def add_head(self) -> None:
        """The weights of the head, unless they are the table of words."""
        if not self.config.tied:
            self.head = Linear(self.config.width, self.config.vocabulary, bias=False)

    def add_tables(self, rotary: Rotary, prefix: str = "") -> None:
        """The cosines and sines of all places, as buffers that no file keeps."""
        cos, sin = rotary.tables(self.config.head_size, self.config.context)
        self.register_buffer(f"{prefix}cos", cos, persistent=False)
        self.register_buffer(f"{prefix}sin", sin, persistent=False)

    def begun(self, input_ids: Tensor, timeline: Timeline) -> Tensor:
        """What the first layer takes, [batch, sequence, width]."""
        x: Tensor = self.words(input_ids)
        return x

    def tables(self, layer: nn.Module) -> Cache | None:
        """The cosines and sines by which a layer turns queries and keys."""
        return self.cos, self.sin

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        past_key_values: dict[str, Tensor] | None = None,
        num_logits_to_keep: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The inputs and outputs are those of `decoder_inputs` and `decoder_outputs`.

        Without a past the tokens are whole texts, and without a number all logits are given.
        """
        c = self.config
        timeline = Timeline.of_mask(attention_mask)
        x = self.begun(input_ids, timeline)
        presents = []
        for layer, past in zip(self.layers, _past_of(past_key_values, c, input_ids), strict=True):
            x, present = layer(x, timeline, past, self.tables(layer))
            presents.append(present)
        x = self.norm(kept_rows(x, timeline, num_logits_to_keep))
        logits = torch.matmul(x, self.words.weight.t()) if c.tied else self.head(x)
        return _answer(logits, presents)
