"""A segment-recurrent decoder for texts without end, over a memory of compressed tokens.

Memory is carried from segment to segment layer by layer, as in Transformer-XL (Dai et al. 2019,
https://arxiv.org/abs/1901.02860), and what is carried is compressed, as in the Compressive
Transformer (Rae et al. 2019, https://arxiv.org/abs/1911.05507): a token is kept as a quarter of
its width, which serves all heads as key and as value (Shazeer 2019,
https://arxiv.org/abs/1911.02150; DeepSeek-AI 2024, https://arxiv.org/abs/2405.04434).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgetfm.layers.feed_forward import FeedForward
from edgetfm.layers.grouped_query import Timeline
from edgetfm.layers.linear import Linear
from edgetfm.layers.memory import Memory, MemoryAttention, alibi
from edgetfm.models._config import check_config
from edgetfm.models._decoder import CausalLayer, kept_rows
from edgetfm.models._family import Family
from edgetfm.signature import KEEP, PAST, PRESENT, UNBOUNDED, TensorSpec


@dataclass(frozen=True)
class MemoryConfig:
    """The sizes of a decoder.

    memory: how many tokens before it a token sees in each layer, however far they are; `layers`
    times as many reach it through others. segment: the most tokens that are read at once; more are
    read in several. compressed: the numbers that are kept of a token in each layer, a quarter of
    `width` if 0.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int
    memory: int = 256
    segment: int = 512
    compressed: int = 0
    activation: str = "gelu"
    eps: float = 1e-5
    dropout: float = 0.1
    tied: bool = True

    def __post_init__(self) -> None:
        check_config(
            self,
            counts=("vocabulary", "width", "layers", "heads", "inner", "memory", "segment",
                    "kept"),
        )  # fmt: skip

    norm = "layer"
    norm_place = "pre"

    @property
    def kept(self) -> int:
        """The numbers that are kept of a token in each layer."""
        return self.compressed or self.width // 4

    @property
    def longest(self) -> int:
        """The most tokens that are read at once; a text has no end."""
        return self.segment


def _layer(c: MemoryConfig) -> CausalLayer:
    attention = MemoryAttention(c.width, c.heads, c.kept, c.eps)
    return CausalLayer(c, attention, FeedForward(c.width, c.inner, c.activation))


class MemoryDecoder(nn.Module):
    """The decoder with its head: tokens and a memory to logits and the memory after them."""

    def __init__(self, c: MemoryConfig, task: str) -> None:
        super().__init__()
        self.config = c
        self.words = nn.Embedding(c.vocabulary, c.width)
        self.dropout = nn.Dropout(c.dropout)
        self.distances = nn.Parameter(alibi(c.heads, c.memory))
        self.layers = nn.ModuleList(_layer(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width, eps=c.eps)
        if not c.tied:
            self.head = Linear(c.width, c.vocabulary, bias=False)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        past_key_values: dict[str, Tensor] | None = None,
        num_logits_to_keep: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The inputs and outputs are those of `_inputs` and `_outputs`.

        Rows are padded on the right. attention_mask: [batch, tokens so far], or as many of the
        last ones as matter: at most `memory` and the segment's own. Without a past the segment is
        a text's first, and without a number all logits are given.
        """
        c = self.config
        batch, sequence = input_ids.shape
        if past_key_values is None:
            nothing = self.words.weight.new_zeros(batch, 1, 0, c.kept)
            past_key_values = {f"{i}.memory": nothing for i in range(c.layers)}
        timeline = Timeline.of_mask(attention_mask)
        memory = Memory.of(timeline, sequence, past_key_values["0.memory"].shape[2], c.memory)
        bias = memory.bias(self.distances)
        x = self.dropout(self.words(input_ids))
        presents = {}
        for i, layer in enumerate(self.layers):
            x, present = layer(x, bias, memory, past_key_values[f"{i}.memory"][:, 0])
            presents[f"{PRESENT}{i}.memory"] = present[:, None]
        x = self.norm(kept_rows(x, timeline, num_logits_to_keep))
        logits = torch.matmul(x, self.words.weight.t()) if c.tied else self.head(x)
        return {"logits": logits, **presents}


def _inputs(c: MemoryConfig, task: str) -> tuple[TensorSpec, ...]:
    """The tokens of a segment, which tokens are real, and what is remembered of those before."""
    return (
        TensorSpec("input_ids", "int64", ("batch", "sequence")),
        TensorSpec("attention_mask", "int64", ("batch", "total_sequence")),
        *(
            TensorSpec(f"{PAST}{i}.memory", "float32", ("batch", 1, "past_sequence", c.kept))
            for i in range(c.layers)
        ),
        TensorSpec(KEEP, "int64", ()),
    )


def _outputs(c: MemoryConfig, task: str) -> tuple[TensorSpec, ...]:
    """Logits of the tokens that were asked for, and the memory, always of one size."""
    return (
        TensorSpec("logits", "float32", ("batch", "kept", c.vocabulary)),
        *(
            TensorSpec(f"{PRESENT}{i}.memory", "float32", ("batch", 1, c.memory, c.kept))
            for i in range(c.layers)
        ),
    )


def _cache_of(c: MemoryConfig) -> dict[str, Any]:
    """What a manifest says of a decoder's memory."""
    return {
        "context": UNBOUNDED,
        "vocabulary": c.vocabulary,
        "width": c.width,
        "heads": c.heads,
        "layers": c.layers,
        "memory": c.memory,
        "kept": c.kept,
    }


FAMILY = Family(
    name="memory",
    tasks=("text-generation",),
    config=MemoryConfig,
    build=MemoryDecoder,
    inputs=_inputs,
    outputs=_outputs,
    cache=_cache_of,
)
