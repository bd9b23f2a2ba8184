"""GPT-2: a pre-norm decoder with learned positions and tied embeddings.

Radford et al. 2019, "Language models are unsupervised multitask learners"; the code is at
https://github.com/openai/gpt-2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgetfm.layers.feed_forward import ACTIVATIONS, FeedForward
from edgetfm.layers.grouped_query import Cache, GroupedQueryAttention, Timeline
from edgetfm.layers.linear import Linear
from edgetfm.models._config import check_config
from edgetfm.models._decoder import (
    answer,
    cache_of,
    decoder_inputs,
    decoder_outputs,
    kept_rows,
    past_of,
)
from edgetfm.models._family import Drop, Family, FromHF, Rename, Transpose
from edgetfm.models._hf import Reader


@dataclass(frozen=True)
class GPTConfig:
    """The sizes of a decoder.

    context: rows of the table of positions. scaled: whether scores are divided by the root of a
    head's size; scaled_by_layer: and by the number of the layer, the first being 1.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    inner: int
    context: int
    activation: str = "gelu_new"
    eps: float = 1e-5
    dropout: float = 0.1
    tied: bool = True
    scaled: bool = True
    scaled_by_layer: bool = False

    def __post_init__(self) -> None:
        check_config(
            self,
            counts=("vocabulary", "width", "layers", "heads", "inner", "context"),
            activations=("activation",),
            divides=(("heads", "width"),),
        )

    @property
    def kv_heads(self) -> int:
        """Every query has a key of its own."""
        return self.heads

    @property
    def head_size(self) -> int:
        """The units of a head."""
        return self.width // self.heads

    @property
    def longest(self) -> int:
        """The most tokens a text may have."""
        return self.context

    @property
    def sees(self) -> None:
        """A token sees all tokens before it."""
        return None


class Layer(nn.Module):
    """Attention and feed-forward, each of its normalized input and added to it."""

    def __init__(self, c: GPTConfig, number: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(c.width, eps=c.eps)
        scale = c.head_size**-0.5 if c.scaled else 1.0
        self.attention = GroupedQueryAttention(
            c.width,
            c.heads,
            c.kv_heads,
            c.head_size,
            scale=scale / number if c.scaled_by_layer else scale,
            qkv_bias=True,
            out_bias=True,
        )
        self.feed_forward_norm = nn.LayerNorm(c.width, eps=c.eps)
        self.feed_forward = FeedForward(c.width, c.inner, c.activation)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, timeline: Timeline, past: Cache) -> tuple[Tensor, Cache]:
        """`x` is [batch, sequence, width]."""
        mixed, present = self.attention(self.attention_norm(x), timeline, past, None)
        x = x + self.dropout(mixed)
        x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return x, present


class GPT(nn.Module):
    """The decoder with its head: tokens and a past to logits and a longer past."""

    def __init__(self, c: GPTConfig, task: str) -> None:
        super().__init__()
        self.config = c
        self.words = nn.Embedding(c.vocabulary, c.width)
        self.positions = nn.Embedding(c.context, c.width)
        self.dropout = nn.Dropout(c.dropout)
        self.layers = nn.ModuleList(Layer(c, i + 1) for i in range(c.layers))
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
        """The inputs and outputs are those of `decoder_inputs` and `decoder_outputs`.

        Without a past the tokens are whole texts, and without a number all logits are given.
        """
        c = self.config
        timeline = Timeline.of_mask(attention_mask)
        batch, sequence = input_ids.shape
        x = self.words(input_ids) + self.positions(timeline.places(sequence))
        x = self.dropout(x)
        presents = []
        for layer, past in zip(self.layers, past_of(past_key_values, c, batch), strict=True):
            x, present = layer(x, timeline, past)
            presents.append(present)
        x = self.norm(kept_rows(x, timeline, num_logits_to_keep))
        logits = torch.matmul(x, self.words.weight.t()) if c.tied else self.head(x)
        return answer(logits, presents)


def _config_from_hf(hf: Mapping[str, Any], task: str) -> GPTConfig:
    """The config of a GPT-2; a SourceError for what the family cannot honour."""
    read = Reader(hf, "gpt")
    read.refuse("add_cross_attention", allowed=(False, None))
    width, heads = read.size("n_embd"), read.size("n_head")
    read.divides("n_head", heads, "n_embd", width)
    values: dict[str, Any] = dict(  # noqa: C408  (a call is what follows)
        vocabulary=read.size("vocab_size"),
        width=width,
        layers=read.size("n_layer"),
        heads=heads,
        inner=read.whole("n_inner", 4 * width),
        context=read.size("n_positions"),
        activation=read.one_of("activation_function", ACTIVATIONS, "gelu_new"),
        eps=read.number("layer_norm_epsilon", 1e-5),
        dropout=read.number("resid_pdrop", 0.1),
        tied=bool(hf.get("tie_word_embeddings", True)),
        scaled=hf.get("scale_attn_weights") is not False,
        scaled_by_layer=bool(hf.get("scale_attn_by_inverse_layer_idx")),
    )
    read.finish()
    return GPTConfig(**values)


# Hugging Face stores GPT-2's products as Conv1D, [inputs, outputs], which is how ours are stored.
FAMILY = Family(
    name="gpt",
    tasks=("text-generation",),
    config=GPTConfig,
    build=GPT,
    inputs=decoder_inputs,
    outputs=decoder_outputs,
    cache=cache_of,
    from_hf=FromHF(
        model_types=("gpt2",),
        config=_config_from_hf,
        weights=(
            Rename(r"^transformer\.", ""),
            Drop(r"\.attn\.(masked_)?bias$"),  # buffers of old checkpoints
            Rename(r"^wte\.", "words."),
            Rename(r"^wpe\.", "positions."),
            Rename(r"^ln_f\.", "norm."),
            Rename(r"^h\.(\d+)\.", r"layers.\1."),
            Rename(r"\.ln_1\.", ".attention_norm."),
            Rename(r"\.ln_2\.", ".feed_forward_norm."),
            Rename(r"\.attn\.c_attn\.", ".attention.qkv."),
            Rename(r"\.attn\.c_proj\.", ".attention.out."),
            Rename(r"\.mlp\.c_fc\.", ".feed_forward.up."),
            Rename(r"\.mlp\.c_proj\.", ".feed_forward.down."),
            Rename(r"^lm_head\.", "head."),
            Transpose(r"^head\.weight$"),
        ),
        elsewhere=r"^head\.",  # some checkpoints keep a copy of tied embeddings
    ),
)
