"""Causal attention over a cache: grouped queries (Ainslie et al. 2023) for prompt and decoding.

https://arxiv.org/abs/2305.13245. In PyTorch it is written out; in a graph it is one node,
com.microsoft.GroupQueryAttention, which writes the new keys and values into a buffer that past
and present share.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgetfm.layers.linear import Linear
from edgetfm.layers.norms import RMSNorm
from edgetfm.layers.rotary import rotate

Cache = tuple[Tensor, Tensor]
"""Keys and values, [batch, kv_heads, length, head_size] each."""


@dataclass(frozen=True)
class Timeline:
    """Where the tokens of a step stand, counted once and read by every layer.

    lengths: tokens of each row so far, the step's included, int64 [batch]. last: the same minus
    one, int32, as the node wants it. total: the longest row with its padding. total_tensor: the
    same as an int32 scalar.
    """

    lengths: Tensor
    last: Tensor
    total: int
    total_tensor: Tensor

    @classmethod
    def of_mask(cls, attention_mask: Tensor) -> Timeline:
        """`attention_mask` is int64 [batch, total], 1 for a token; rows are padded on the right."""
        lengths = attention_mask.sum(dim=1)
        total = attention_mask.shape[1]
        return cls(
            lengths,
            (lengths - 1).to(torch.int32),
            total,
            torch.scalar_tensor(total, dtype=torch.int32),
        )

    @classmethod
    def after(cls, past: int, batch: int, sequence: int, device: torch.device) -> Timeline:
        """Rows without padding: `sequence` tokens of each, behind `past` others."""
        total = past + sequence
        lengths = torch.full((batch,), total, dtype=torch.int64, device=device)
        return cls(
            lengths,
            (lengths - 1).to(torch.int32),
            total,
            torch.scalar_tensor(total, dtype=torch.int32),
        )

    def places(self, sequence: int) -> Tensor:
        """The position of each of the step's `sequence` tokens, int64 [batch, sequence]."""
        start = (self.lengths - sequence).clamp(min=0)
        return start[:, None] + torch.arange(sequence, device=start.device)[None, :]

    def kept(self, sequence: int, num_logits_to_keep: Tensor) -> Tensor:
        """Which of the step's tokens get logits, int64 [batch, kept]: 0 keeps all.

        n keeps each row's last n real ones (its first again and again if it has fewer).
        """
        back = torch.arange(sequence, device=self.lengths.device) - sequence
        everything = num_logits_to_keep == 0
        chosen = torch.nonzero(everything | (back >= -num_logits_to_keep))[:, 0]
        # How far a row's last real token is before the step's last: 0 without padding.
        padding = (self.total - self.lengths).clamp(min=0) * (num_logits_to_keep != 0)
        return (chosen[None, :] - padding[:, None]).clamp(min=0)


class GroupedQueryAttention(nn.Module):
    """`heads` queries share `kv_heads` keys and values: [batch, sequence, width] in and out.

    Query, key and value come from one multiplication, in this order along the outputs. window: a
    token sees itself and the window - 1 before it; 0 is all. norm_eps: the RMS norm of each
    query's and key's head before it turns, if not None. scale: of the scores.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int,
        head_size: int,
        *,
        scale: float,
        qkv_bias: bool = False,
        out_bias: bool = False,
        window: int = 0,
        norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_size = heads, kv_heads, head_size
        self.scale, self.window = scale, window
        self.qkv = Linear(width, (heads + 2 * kv_heads) * head_size, bias=qkv_bias)
        self.out = Linear(heads * head_size, width, bias=out_bias)
        if norm_eps is not None:
            self.q_norm = RMSNorm(head_size, norm_eps)
            self.k_norm = RMSNorm(head_size, norm_eps)
        self.norms = norm_eps is not None

    def forward(
        self,
        x: Tensor,
        timeline: Timeline,
        past: Cache,
        tables: Cache | None,
        bias: Tensor | None = None,
    ) -> tuple[Tensor, Cache]:
        """`tables` are the rotary cos and sin, None for positions that were added before.

        bias: added to the scores, [1, heads, sequence, total].
        """
        packed = self.qkv(x)
        parts: tuple[Tensor, ...] = (packed,)
        exporting = torch.compiler.is_exporting()
        if self.norms or not exporting:
            sizes = [n * self.head_size for n in (self.heads, self.kv_heads, self.kv_heads)]
            query, key, value = packed.split(sizes, dim=-1)
            if self.norms:
                query = self.q_norm(self._apart(query)).reshape(query.shape)
                key = self.k_norm(self._apart(key)).reshape(key.shape)
            parts = (query, key, value)
        mixed, present = (
            self._node(parts, timeline, past, tables, bias)
            if exporting
            else self._written_out(parts, timeline, past, tables, bias)
        )
        out: Tensor = self.out(mixed)
        return out, present

    def _apart(self, x: Tensor) -> Tensor:
        """[batch, sequence, heads * size] -> [batch, sequence, heads, size]."""
        return x.reshape(*x.shape[:2], -1, self.head_size)

    def _node(
        self,
        parts: tuple[Tensor, ...],
        timeline: Timeline,
        past: Cache,
        tables: Cache | None,
        bias: Tensor | None,
    ) -> tuple[Tensor, Cache]:
        """The operator that runtimes have, https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md."""
        query, key, value = parts if len(parts) == 3 else (parts[0], None, None)
        attributes: dict[str, int | float] = {
            "num_heads": self.heads,
            "kv_num_heads": self.kv_heads,
            "scale": self.scale,
            "do_rotary": int(tables is not None),
            "rotary_interleaved": 0,
        }
        if self.window:
            attributes["local_window_size"] = self.window
        batch, sequence = query.shape[:2]
        cache = [batch, self.kv_heads, timeline.total, self.head_size]
        turns = tables or ()
        if bias is not None:  # behind the tables and the positions
            turns = (*(tables or (None, None)), None, bias)
        mixed, *present = torch.onnx.ops.symbolic_multi_out(
            "com.microsoft::GroupQueryAttention",
            (query, key, value, *past, timeline.last, timeline.total_tensor, *turns),
            attributes,
            dtypes=[torch.float32] * 3,
            shapes=[[batch, sequence, self.heads * self.head_size], cache, cache],
            version=1,
        )
        return mixed, (present[0], present[1])

    def _written_out(
        self,
        parts: tuple[Tensor, ...],
        timeline: Timeline,
        past: Cache,
        tables: Cache | None,
        bias: Tensor | None,
    ) -> tuple[Tensor, Cache]:
        """softmax(QK^T * scale) V over all tokens so far, as the operator computes it."""
        query, key, value = (self._apart(part).transpose(1, 2) for part in parts)
        batch, sequence = query.shape[0], query.shape[2]
        places = timeline.places(sequence)
        if tables is not None:
            cos, sin = (table[places] for table in tables)
            query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        if bias is None and not self.window and not past[0].shape[2] and timeline.total == sequence:
            # Whole texts, as in training, in one kernel: padding comes last, where no token looks.
            mixed = _whole(query, key, value, self.scale)
            return mixed.transpose(1, 2).reshape(batch, sequence, -1), (key, value)
        present = (
            _written(past[0], key, places, timeline.total),
            _written(past[1], value, places, timeline.total),
        )
        keys, values = present
        grouped = query.reshape(batch, self.kv_heads, -1, sequence, self.head_size)
        scores = torch.matmul(grouped, keys[:, :, None].transpose(-1, -2)) * self.scale
        if bias is not None:
            scores = scores + bias.reshape(1, self.kv_heads, -1, *bias.shape[2:])
        slots = torch.arange(keys.shape[2], device=places.device)
        seen = slots <= places[:, :, None]
        if self.window:
            seen &= slots > places[:, :, None] - self.window
        scores = scores.masked_fill(~seen[:, None, None], float("-inf"))
        mixed = torch.matmul(torch.softmax(scores, dim=-1), values[:, :, None])
        return mixed.flatten(1, 2).transpose(1, 2).reshape(batch, sequence, -1), present


def _whole(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Causal attention of whole texts, [batch, heads, sequence, head_size] each."""
    if query.dtype == torch.bfloat16 and query.device.type == "cpu":
        # Backwards that kernel takes 2.5 times as long as float32's, also on a CPU that
        # multiplies in bfloat16: a GPT of width 192 learns a tenth faster without it.
        with torch.autocast("cpu", enabled=False):
            mixed = _whole(query.float(), key.float(), value.float(), scale)
        return mixed.to(torch.bfloat16)
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=True, scale=scale, enable_gqa=True
    )


def _written(past: Tensor, new: Tensor, places: Tensor, total: int) -> Tensor:
    """The cache with `new` at its places, long enough for `total` tokens."""
    room = max(total - past.shape[2], 0)
    cache = torch.nn.functional.pad(past, (0, 0, 0, room))
    return cache.scatter(2, places[:, None, :, None].expand(new.shape), new)
