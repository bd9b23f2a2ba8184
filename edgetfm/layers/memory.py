"""Attention over a memory of fixed size, which a segment reads and hands on to the next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgetfm.layers.attention import MASKED
from edgetfm.layers.grouped_query import Timeline
from edgetfm.layers.linear import Linear


def alibi(heads: int, furthest: int) -> Tensor:
    """A bias for each distance from 0 to `furthest` and each head, [furthest + 1, heads].

    The distance times 2^-8/h, 2^-16/h, ..., 2^-8 (Press et al. 2022,
    https://arxiv.org/abs/2108.12409): where training starts from.
    """
    slopes = 2.0 ** (-8.0 * torch.arange(1, heads + 1) / heads)
    return -torch.arange(furthest + 1)[:, None] * slopes


@dataclass(frozen=True)
class Memory:
    """Which places a segment's tokens see, and which stay: counted once and read by every layer.

    A row's places are the slots that hold a token, in the order of its text, and then its
    segment. distance: how far each place is before each token, int64 [batch, sequence, slots +
    sequence], -1 where it cannot be seen. stay: which places go on to the next segment, int64
    [batch, size]; of a row with fewer tokens the first `size` count.
    """

    distance: Tensor
    stay: Tensor

    @classmethod
    def of(cls, timeline: Timeline, sequence: int, slots: int, size: int) -> Memory:
        """A segment of `sequence` tokens on `slots` that are left of those before it.

        size: how many tokens are remembered, which is how far a token sees.
        """
        device = timeline.lengths.device
        before = (timeline.lengths - sequence).clamp(min=0)
        real = timeline.lengths - before
        held = before.clamp(max=slots)[:, None]
        slot = torch.arange(slots, device=device)[None, :]
        token = torch.arange(sequence, device=device)[None, :]
        # A slot that holds nothing is put behind all tokens, where none of them looks.
        of_slots = torch.where(slot < held, slot, slots + sequence)
        places = torch.cat((of_slots, held + token), dim=1)
        distance = (held + token)[:, :, None] - places[:, None, :]
        seen = (distance >= 0) & (distance <= size)
        count = held + real[:, None]
        stay = (count - size).clamp(min=0) + torch.arange(size, device=device)[None, :]
        stay = torch.where(stay < held, stay, stay - held + slots).clamp(max=slots + sequence - 1)
        return cls(torch.where(seen, distance, -1), stay)

    def bias(self, by_distance: Tensor) -> Tensor:
        """What is added to the scores, [batch, heads, sequence, slots + sequence].

        by_distance: [size + 1, heads].
        """
        table = functional.pad(by_distance, (0, 0, 1, 0), value=MASKED)
        return functional.embedding(self.distance + 1, table).permute(0, 3, 1, 2)


class MemoryAttention(nn.Module):
    """Each token looks at compressed ones, its own among them: [batch, sequence, width] in and out.

    A token is compressed to `kept` numbers, width -> kept, which are key and value of every head;
    what the heads read goes heads * kept -> width. So a step costs the same whatever came before,
    and nothing is worked out anew of what is remembered.
    """

    def __init__(self, width: int, heads: int, kept: int, eps: float) -> None:
        super().__init__()
        self.heads, self.kept = heads, kept
        self.scale = kept**-0.5
        self.query = Linear(width, heads * kept)
        self.compress = Linear(width, kept)
        self.compress_norm = nn.LayerNorm(kept, eps=eps)
        self.out = Linear(heads * kept, width)

    def forward(
        self, x: Tensor, bias: Tensor, memory: Memory, past: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the tokens read, and the memory after them, [batch, size, kept].

        past: [batch, slots, kept]. bias: `memory.bias`.
        """
        batch, sequence, _ = x.shape
        places = torch.cat((past, self.compress_norm(self.compress(x))), dim=1)
        query = self.query(x).reshape(batch, sequence, self.heads, self.kept) * self.scale
        scores = torch.matmul(query.transpose(1, 2), places.transpose(1, 2)[:, None])
        weights = torch.softmax(scores + bias, dim=-1)
        read = torch.matmul(weights, places[:, None])
        out: Tensor = self.out(read.transpose(1, 2).reshape(batch, sequence, -1))
        index = memory.stay[:, :, None].expand(-1, -1, self.kept)
        return out, torch.gather(places, 1, index)
