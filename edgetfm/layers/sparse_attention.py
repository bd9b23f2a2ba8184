"""Attention to a window and to a few places of the whole text, at a cost that grows with the text.

Child et al. 2019, https://arxiv.org/abs/1904.10509; Beltagy et al. 2020,
https://arxiv.org/abs/2004.05150, whose global places also look at everything.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from edgetfm.layers.attention import MASKED, SelfAttention


def sparse_pattern(length: int, window: int, stride: int, *, causal: bool = False) -> Tensor:
    """Which places see which, bool [length, length]: what `SparseSelfAttention` computes.

    Places at most `window` apart see each other; each `stride`-th sees all and is seen by all.
    """
    place = torch.arange(length)
    query, key = place[:, None], place[None, :]
    seen = ((query - key).abs() <= window) | (key % stride == 0) | (query % stride == 0)
    return seen & (key <= query) if causal else seen


def parts_of(length: int, size: int) -> int:
    """How many parts of a size hold so many places: at least 2.

    An axis that is 1 while a graph is traced stays so. The division is one that is right in a
    graph too, which divides towards zero.
    """
    parts: int = torch.sym_max((length + size - 1) // size, 2)  # type: ignore[no-untyped-call]
    return parts


class SparseSelfAttention(SelfAttention):
    """Each token sees those at most `window` away and each `stride`-th; those see everything.

    Scores are made in blocks of `window` queries, for their own block and its neighbours, so of n
    tokens there are n * (3 * window + n / stride) of them and as many again of the strided places:
    O(n * window) while n is at most window * stride. `seen` is [batch, sequence], 1 for a token
    that counts; a row's padding is on the right.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        window: int,
        stride: int,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(width, heads, dropout=dropout)
        if stride % window:
            raise ValueError(f"stride is {stride}, expected a multiple of window ({window})")
        self.window, self.stride, self.causal = window, stride, causal

    def mix(self, query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> Tensor:
        """[sequence, batch, heads, head width] each to [batch, heads, sequence, head width]."""
        length, batch = query.shape[:2]
        parts = parts_of(length, self.stride)
        room = parts * self.stride - length
        q, k, v = (_padded(x.permute(1, 2, 0, 3), room) for x in (query, key, value))
        if seen is None:
            seen = torch.ones(batch, length, device=query.device)
        hidden = (1.0 - functional.pad(seen.to(q.dtype), (0, room))) * MASKED  # [batch, places]
        far_keys, far_values = (self._strided(x) for x in (k, v))
        far_hidden = hidden.reshape(batch, parts, self.stride)[:, :, 0]
        near = self._near(q, k, v, hidden, (far_keys, far_values, far_hidden))
        whole = self._whole(self._strided(q), k, v, hidden)
        near = near.reshape(batch, self.heads, parts, self.stride, self.head_width)
        mixed = torch.cat((whole[:, :, :, None], near[:, :, :, 1:]), dim=3)
        return mixed.reshape(batch, self.heads, parts * self.stride, self.head_width)[:, :, :length]

    def _strided(self, x: Tensor) -> Tensor:
        """Each stride-th place: [batch, heads, places, size] -> [batch, heads, parts, size]."""
        return x.reshape(*x.shape[:2], -1, self.stride, x.shape[-1])[:, :, :, 0]

    def _whole(self, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor) -> Tensor:
        """The strided places' look at everything."""
        scores = torch.matmul(query, key.transpose(2, 3)) + hidden[:, None, None]
        if self.causal:
            at = torch.arange(query.shape[2], device=query.device)[:, None] * self.stride
            scores = scores + _later(at, torch.arange(key.shape[2], device=query.device))
        return torch.matmul(self.dropout(torch.softmax(scores, dim=-1)), value)

    def _near(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        hidden: Tensor,
        far: tuple[Tensor, Tensor, Tensor],
    ) -> Tensor:
        """Every place's look at its neighbours and at the strided places."""
        w, size = self.window, self.head_width
        batch, heads, places, _ = query.shape
        blocks = places // w
        q = query.reshape(batch, heads, blocks, w, size)
        k, v = (self._with_neighbours(x) for x in (key, value))
        of_keys = functional.pad(hidden, (w, w), value=MASKED).reshape(batch, 1, blocks + 2, w, 1)
        of_keys = torch.cat([of_keys[:, :, i : blocks + i] for i in range(3)], dim=3)[..., 0]
        scores = torch.matmul(q, k.transpose(3, 4))
        scores = scores + of_keys[:, :, :, None] + self._near_bias(blocks, query.device)
        far_keys, far_values, far_hidden = far
        distant = torch.matmul(q, far_keys.transpose(2, 3)[:, :, None])
        distant = distant + far_hidden[:, None, None, None]
        if self.causal:
            at = torch.arange(places, device=query.device).reshape(blocks, w, 1)
            strided = torch.arange(far_keys.shape[2], device=query.device) * self.stride
            distant = distant + _later(at, strided)
        weights = self.dropout(torch.softmax(torch.cat((scores, distant), dim=-1), dim=-1))
        mixed = torch.matmul(weights[..., : 3 * w], v)
        mixed = mixed + torch.matmul(weights[..., 3 * w :], far_values[:, :, None])
        return mixed.reshape(batch, heads, places, size)

    def _with_neighbours(self, x: Tensor) -> Tensor:
        """Blocks of `window` with those before and after them: [batch, heads, blocks, 3w, size]."""
        w = self.window
        blocks = x.shape[2] // w
        x = functional.pad(x, (0, 0, w, w)).reshape(*x.shape[:2], blocks + 2, w, x.shape[3])
        return torch.cat([x[:, :, i : blocks + i] for i in range(3)], dim=3)

    def _near_bias(self, blocks: int, device: torch.device) -> Tensor:
        """MASKED for keys that are too far, later, or strided: the last are looked at apart."""
        w = self.window
        query = torch.arange(w, device=device)[:, None] + w
        key = torch.arange(3 * w, device=device)[None, :]
        unseen = (query - key).abs() > w
        if self.causal:
            unseen = unseen | (key > query)
        place = torch.arange(blocks, device=device)[:, None] * w + key - w
        strided = (place % self.stride == 0)[:, None, :]
        return (unseen[None] | strided).to(torch.float32) * MASKED


def _padded(x: Tensor, room: int) -> Tensor:
    return functional.pad(x, (0, 0, 0, room))


def _later(query: Tensor, key: Tensor) -> Tensor:
    """MASKED where a key comes after the query."""
    return (key > query).to(torch.float32) * MASKED
