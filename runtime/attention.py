"""What a model attends to: the weights of its attention, read out of its graph.

Needs onnx-ir, which is imported on use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetfm.errors import InputError
from edgetfm.runtime.divergence import compute_values
from edgetfm.runtime.model import Model
from edgetfm.signature import Array, Feeds

_GROUPED = "GroupQueryAttention"
_CLOSED = ("Attention", "MultiHeadAttention", "QAttention", "PackedAttention", "FlashAttention")
"""Operators that keep their weights to themselves, and from whose inputs none are made here."""


@dataclass(frozen=True)
class AttentionMap:
    """One layer's weights, [heads, queries, keys]: each row sums to 1. node: the graph's name."""

    node: str
    weights: Array


def attention_maps(model: Model, feeds: Feeds) -> list[AttentionMap]:
    """The maps of every layer for one item, a batch of 1, in the order of the graph.

    Written-out attention has its weights in the graph; those of GroupQueryAttention are computed
    from its inputs, as the operator does. InputError for graphs that have neither.
    """
    from edgetfm.graphs import read_graph

    path = model.graph.path
    nodes = [n for n in read_graph(path).graph if n.op_type in ("Softmax", _GROUPED, *_CLOSED)]
    closed = sorted({n.op_type for n in nodes if n.op_type in _CLOSED})
    if closed:
        raise InputError(
            f"the weights of {', '.join(closed)} stay inside the operator: show the attention of a "
            "bundle whose graph has it written out, as edgetfm's own families of encoders have"
        )
    grouped = {n: _Grouped.of(n) for n in nodes if n.op_type == _GROUPED}
    soft = [str(n.outputs[0].name) for n in nodes if n.op_type == "Softmax"]
    wanted = [*soft, *(name for g in grouped.values() for name in g.values)]
    values = compute_values(path, dict.fromkeys(wanted), feeds) if wanted else {}
    maps = []
    for node in nodes:
        name = node.name or str(node.outputs[0].name)
        if node in grouped:
            maps.append(AttentionMap(name, grouped[node].weights(values)))
            continue
        found = values[str(node.outputs[0].name)]
        if found.ndim > 4:
            raise InputError(
                "this model's attention is sparse: it makes no weights of every two tokens, which "
                "a map would show"
            )
        if found.ndim == 4:  # [batch, heads, queries, keys]; a router's has fewer axes
            maps.append(AttentionMap(name, found[0]))
    if not maps:
        raise InputError(
            f"{path.name} has no attention with weights to show: it needs a Softmax of [batch, "
            "heads, queries, keys] or a GroupQueryAttention, and linear attention has neither"
        )
    return maps


def places_of(maps: Sequence[AttentionMap]) -> int:
    """How many places all maps are of. InputError where layers see other ones than each other."""
    sides = {side for one in maps for side in one.weights.shape[-2:]}
    if len(sides) != 1:
        shown = ", ".join(sorted({"x".join(map(str, one.weights.shape[-2:])) for one in maps}))
        raise InputError(
            f"the layers attend from and to different places, {shown}: only maps of every place "
            "to the same places can be shown on one page, as encoders and decoders have them"
        )
    return int(sides.pop())


def rollout(maps: Sequence[AttentionMap]) -> Array:
    """How much each place counts in what stands at the first in the end, [places], sum 1.

    InputError where layers see other places than each other.

    Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928: the heads of a layer are averaged,
    half of what is at a place stays there, and the layers follow each other.
    """
    own = np.eye(places_of(maps))
    whole = own
    for one in maps:
        whole = (one.weights.mean(0) + own) / 2 @ whole
    found: Array = whole[0]
    return found


@dataclass(frozen=True)
class _Grouped:
    """A GroupQueryAttention: the values it reads, and how it weighs keys.

    query: its first input, whose first heads are queries if keys and values are packed behind
    them. keys: the cache after it, whose keys have turned. tables: the rotary cos and sin.
    """

    query: str
    keys: str
    heads: int
    scale: float
    window: int
    tables: tuple[Array, Array] | None

    @classmethod
    def of(cls, node: Any) -> _Grouped:
        def number(name: str, default: float) -> float:
            return float(node.attributes[name].value) if name in node.attributes else default

        tables = None
        if number("do_rotary", 0):
            cos, sin = (np.asarray(v.const_value.numpy()) for v in node.inputs[7:9])
            tables = (cos, sin)
        return cls(
            query=str(node.inputs[0].name),
            keys=str(node.outputs[1].name),
            heads=int(number("num_heads", 1)),
            scale=number("scale", 0.0),
            window=int(number("local_window_size", -1)),
            tables=tables,
        )

    @property
    def values(self) -> tuple[str, str]:
        """The names of what is read out of the graph."""
        return self.query, self.keys

    def weights(self, values: Feeds) -> Array:
        """softmax(QK^T * scale) of a whole text, [heads, queries, keys]."""
        keys = values[self.keys][0].astype(np.float32)  # [kv_heads, length, size]
        kv_heads, length, size = keys.shape
        query = values[self.query][0].astype(np.float32)[:, : self.heads * size]
        query = query.reshape(length, self.heads, size).transpose(1, 0, 2)
        if self.tables is not None:
            query = _turned(query, *(table[:length].astype(np.float32) for table in self.tables))
        keys = np.repeat(keys, self.heads // kv_heads, axis=0)
        scores = query @ keys.transpose(0, 2, 1) * (self.scale or size**-0.5)
        place = np.arange(length)
        unseen = place[None, :] > place[:, None]
        if self.window > 0:
            unseen |= place[None, :] <= place[:, None] - self.window
        scores[:, unseen] = -np.inf
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights: Array = scores / scores.sum(axis=-1, keepdims=True)
        return weights


def _turned(x: Array, cos: Array, sin: Array) -> Array:
    """Rotary positions: units of the first half of a head turn with those of the second."""
    one, two = np.split(x, 2, axis=-1)
    return np.concatenate((one * cos - two * sin, two * cos + one * sin), axis=-1)
