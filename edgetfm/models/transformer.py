"""The Transformer: an encoder-decoder that is attention and feed-forwards.

Vaswani et al. 2017, "Attention is all you need", https://arxiv.org/abs/1706.03762; Marian
(Junczys-Dowmunt et al. 2018, https://arxiv.org/abs/1804.00344) is its closest kin. BART (Lewis et
al. 2020, https://arxiv.org/abs/1910.13461) learns its positions and normalizes the embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgetfm.errors import SourceError
from edgetfm.layers.attention import SelfAttention, mask_bias
from edgetfm.layers.cross_attention import CrossAttention
from edgetfm.layers.feed_forward import ACTIVATIONS, FeedForward
from edgetfm.layers.grouped_query import GroupedQueryAttention, Timeline
from edgetfm.layers.sinusoids import SinusoidalPositions
from edgetfm.models._config import check_config
from edgetfm.models._encoder_decoder import (
    TEXT_STAGES,
    Head,
    Past,
    TextToText,
    Words,
    cache_of,
    check_head_size,
    text_inputs,
    whole_outputs,
)
from edgetfm.models._family import Family, FromHF, Pack, Rename, RowsFrom, Transpose
from edgetfm.models._hf import Reader

POSITIONS = ("sinusoidal", "learned")


@dataclass(frozen=True)
class TransformerConfig:
    """The sizes of both halves; the paper's base model but for the vocabulary.

    context: the longest text to read or write. positions: one of POSITIONS. pre_norm: whether a
    layer normalizes what goes into its parts, instead of what comes out. embedding_norm: whether
    the embeddings are normalized. scaled: whether words are multiplied by the root of the width.
    tied: whether the head is the table of words. head_bias: whether the logits have a bias.
    """

    vocabulary: int
    width: int = 512
    layers: int = 6
    decoder_layers: int = 6
    heads: int = 8
    decoder_heads: int = 8
    inner: int = 2048
    decoder_inner: int = 2048
    context: int = 512
    positions: str = "sinusoidal"
    pre_norm: bool = False
    embedding_norm: bool = False
    scaled: bool = True
    tied: bool = True
    head_bias: bool = False
    activation: str = "relu"
    eps: float = 1e-5
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_config(
            self,
            counts=(
                *("vocabulary", "width", "layers", "decoder_layers", "heads", "decoder_heads"),
                *("inner", "decoder_inner", "context"),
            ),
            activations=("activation",),
            divides=(("heads", "width"), ("decoder_heads", "width")),
        )
        if self.positions not in POSITIONS:
            raise SourceError(f"positions is {self.positions!r}, known are {', '.join(POSITIONS)}")
        check_head_size(self)

    @property
    def head_size(self) -> int:
        """The units of a head of the decoder."""
        return self.width // self.decoder_heads

    @property
    def encoder_context(self) -> int:
        """The longest text to read."""
        return self.context

    @property
    def longest(self) -> int:
        """The most tokens a text to be read may have."""
        return self.context


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each added to its input, normalized before or after.

    kind: of its attention, which says in what order its axes are.
    """

    def __init__(self, c: Any, kind: type[SelfAttention] = SelfAttention) -> None:
        super().__init__()
        self.pre_norm = c.pre_norm
        self.attention = kind(c.width, c.heads)
        self.attention_norm = nn.LayerNorm(c.width, eps=c.eps)
        self.feed_forward = FeedForward(c.width, c.inner, c.activation)
        self.feed_forward_norm = nn.LayerNorm(c.width, eps=c.eps)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, masked: Tensor | None = None) -> Tensor:
        """`x` is [sequence, batch, width] or as `kind` takes it; `masked` is added to the scores."""
        if self.pre_norm:
            x = x + self.dropout(self.attention(self.attention_norm(x), masked))
            x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        else:
            x = self.attention_norm(x + self.dropout(self.attention(x, masked)))
            x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return x


class DecoderLayer(nn.Module):
    """Attention to the text so far, to the encoder's answer, and feed-forward."""

    def __init__(self, c: Any) -> None:
        super().__init__()
        self.pre_norm = c.pre_norm
        heads, size = c.decoder_heads, c.head_size
        self.attention = GroupedQueryAttention(
            c.width, heads, heads, size, scale=size**-0.5, qkv_bias=True, out_bias=True
        )
        self.attention_norm = nn.LayerNorm(c.width, eps=c.eps)
        self.cross = CrossAttention(c.width, heads, size, scale=size**-0.5)
        self.cross_norm = nn.LayerNorm(c.width, eps=c.eps)
        self.feed_forward = FeedForward(c.width, c.decoder_inner, c.activation)
        self.feed_forward_norm = nn.LayerNorm(c.width, eps=c.eps)
        self.dropout = nn.Dropout(c.dropout)

    def forward(
        self, x: Tensor, number: int, past: Past, timeline: Timeline, masked: Tensor | None
    ) -> Tensor:
        """`x` is [batch, sequence, width]; `masked` is of the encoder's text."""
        own = past.own(number, self.attention.heads, self.attention.head_size)
        taken = self.attention_norm(x) if self.pre_norm else x
        mixed, kept = self.attention(taken, timeline, own, None)
        past.keep_own(number, kept)
        x = x + self.dropout(mixed)
        other = past.other(number, self.cross)
        if self.pre_norm:
            x = x + self.dropout(self.cross(self.cross_norm(x), other, masked))
            x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        else:
            x = self.attention_norm(x)
            x = self.cross_norm(x + self.dropout(self.cross(x, other, masked)))
            x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return x


class Placed(nn.Module):
    """Words and where they stand."""

    def __init__(self, c: TransformerConfig) -> None:
        super().__init__()
        kind = nn.Embedding if c.positions == "learned" else SinusoidalPositions
        self.positions = kind(c.context, c.width)
        self.norm = nn.LayerNorm(c.width, eps=c.eps) if c.embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, past: int = 0) -> Tensor:
        """[batch, sequence, width] in and out; `past` tokens stand before."""
        places = torch.arange(x.shape[1], device=x.device) + past
        out: Tensor = self.dropout(self.norm(x + self.positions(places)))
        return out


class Encoder(nn.Module):
    """Embedded tokens to what the decoder attends to."""

    def __init__(self, c: TransformerConfig) -> None:
        super().__init__()
        self.placed = Placed(c)
        self.layers = nn.ModuleList(EncoderLayer(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width, eps=c.eps) if c.pre_norm else nn.Identity()

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        """[batch, encoder_sequence, width] in and out."""
        masked = mask_bias(attention_mask)
        x = self.placed(x).transpose(0, 1)
        for layer in self.layers:
            x = layer(x, masked)
        out: Tensor = self.norm(x).transpose(0, 1)
        return out


class Decoder(nn.Module):
    """Embedded tokens and a past to hidden states."""

    def __init__(self, c: TransformerConfig) -> None:
        super().__init__()
        self.placed = Placed(c)
        self.layers = nn.ModuleList(DecoderLayer(c) for _ in range(c.decoder_layers))
        self.norm = nn.LayerNorm(c.width, eps=c.eps) if c.pre_norm else nn.Identity()

    def forward(self, x: Tensor, past: Past, masked: Tensor | None) -> Tensor:
        """[batch, sequence, width] in and out."""
        timeline = past.timeline(x)
        x = self.placed(x, past.length)
        for number, layer in enumerate(self.layers):
            x = layer(x, number, past, timeline, masked)
        out: Tensor = self.norm(x)
        return out


def _build(c: TransformerConfig, task: str) -> TextToText:
    words = Words(c.vocabulary, c.width, scale=c.width**0.5 if c.scaled else 1.0)
    head = Head(c.width, c.vocabulary, tied=c.tied, bias=c.head_bias)
    return TextToText(words, Encoder(c), Decoder(c), head)


def _config_from_hf(hf: Mapping[str, Any], task: str) -> TransformerConfig:
    """The config of a BART or a Marian; a SourceError for what the family cannot honour."""
    read = Reader(hf, "transformer")
    bart = read.model_type == "bart"
    read.refuse("is_encoder_decoder", allowed=(True, None))
    read.refuse("share_encoder_decoder_embeddings", allowed=(True, None))
    width = read.size("d_model")
    heads = read.size("encoder_attention_heads")
    decoder_heads = read.size("decoder_attention_heads")
    read.divides("encoder_attention_heads", heads, "d_model", width)
    read.divides("decoder_attention_heads", decoder_heads, "d_model", width)
    values: dict[str, Any] = dict(  # noqa: C408  (a call is what follows)
        vocabulary=read.size("vocab_size"),
        width=width,
        layers=read.size("encoder_layers"),
        decoder_layers=read.size("decoder_layers"),
        heads=heads,
        decoder_heads=decoder_heads,
        inner=read.size("encoder_ffn_dim"),
        decoder_inner=read.size("decoder_ffn_dim"),
        context=read.size("max_position_embeddings"),
        positions="learned" if bart else "sinusoidal",
        embedding_norm=bart,
        scaled=bool(hf.get("scale_embedding")),
        tied=hf.get("tie_word_embeddings") is not False,
        head_bias=True,
        activation=read.one_of("activation_function", ACTIVATIONS, "gelu"),
        dropout=read.number("dropout", 0.1),
    )
    read.finish()
    return TransformerConfig(**values)


LAYER_NAMES = (
    Rename(r"\.self_attn_layer_norm\.", ".attention_norm."),
    Rename(r"\.encoder_attn_layer_norm\.", ".cross_norm."),
    Rename(r"(\.layers\.\d+)\.final_layer_norm\.", r"\1.feed_forward_norm."),
    Rename(r"\.self_attn\.out_proj\.", ".attention.out."),
    Rename(r"\.self_attn\.([qkv])_proj\.", r".attention.\1."),
    Rename(r"\.encoder_attn\.out_proj\.", ".cross.out."),
    Rename(r"\.encoder_attn\.q_proj\.", ".cross.q."),
    Rename(r"\.encoder_attn\.k_proj\.", ".cross.key."),
    Rename(r"\.encoder_attn\.v_proj\.", ".cross.value."),
    Rename(r"\.fc1\.", ".feed_forward.up."),
    Rename(r"\.fc2\.", ".feed_forward.down."),
)
"""What Hugging Face calls the weights of a layer."""

LAYER_SHAPES = (
    Pack(("q", "k", "v"), "qkv"),
    Pack(("key", "value"), "kv"),
    Transpose(r"(\.(q|kv|qkv|out|up|down)|^head)\.weight$"),
)
"""How they are stored here."""

FAMILY = Family(
    name="transformer",
    tasks=("text2text-generation", "translation", "summarization"),
    config=TransformerConfig,
    build=_build,
    inputs=text_inputs,
    outputs=whole_outputs,
    cache=cache_of,
    stages=TEXT_STAGES,
    from_hf=FromHF(
        model_types=("bart", "marian"),
        config=_config_from_hf,
        weights=(
            Rename(r"^model\.", ""),
            Rename(r"^shared\.", "words."),
            Rename(r"^lm_head\.", "head."),
            Rename(r"^final_logits_bias$", "head.bias"),
            Rename(r"\.embed_positions\.", ".placed.positions."),
            Rename(r"\.layernorm_embedding\.", ".placed.norm."),
            RowsFrom(r"\.placed\.positions\.weight$", 2),  # BART counts positions from 2
            *LAYER_NAMES,
            *LAYER_SHAPES,
        ),
        # Copies of the table, of a tied head too, and Marian's positions, which are computed.
        elsewhere=r"^(head\.weight|(en|de)coder\.(embed_tokens|placed\.positions)\.)",
    ),
)
