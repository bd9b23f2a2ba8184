"""What every decoder-only family shares: the tensors of its graph, and its way through them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from edgetfm.layers.grouped_query import Cache, Timeline
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


def past_of(tensors: Mapping[str, Tensor] | None, c: CacheSizes, input_ids: Tensor) -> list[Cache]:
    """The cache of each layer, empty ones beside the tokens where none is given."""
    if tensors is None:
        nothing = torch.zeros(len(input_ids), c.kv_heads, 0, c.head_size, device=input_ids.device)
        return [(nothing, nothing)] * c.layers
    return [(tensors[f"{i}.key"], tensors[f"{i}.value"]) for i in range(c.layers)]


def answer(logits: Tensor, presents: list[Cache]) -> dict[str, Tensor]:
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
