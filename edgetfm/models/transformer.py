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

from edgetfm.layers.parts import (
    ATTENTIONS,
    FEED_FORWARDS,
    NORMS,
    PLACES,
    make_attention,
    make_norm,
    seen_by,
)
from edgetfm.layers.sinusoids import SinusoidalPositions
from edgetfm.models._config import check_config
from edgetfm.models._encoder_decoder import (
    TEXT_STAGES,
    Halves,
    Head,
    TextToText,
    Words,
    cache_of,
    check_head_size,
    text_inputs,
    whole_outputs,
)
from edgetfm.models._family import Family, FromHF, Rename, RowsFrom
from edgetfm.models._hf import Reader
from edgetfm.models._layers import (
    LAYER_NAMES,
    LAYER_SHAPES,
    EncoderLayer,
    decoder_layer,
    feed_forward_of,
    last_norm,
    sizes_from_hf,
    sizes_to_hf,
)
from edgetfm.models._past import Past

POSITIONS = ("sinusoidal", "learned")


@dataclass(frozen=True)
class TransformerConfig(Halves):
    """The sizes of both halves; the paper's base model but for the vocabulary.

    context: the longest text to read or write. positions: one of POSITIONS. attention (of the
    encoder to itself; window: of a sparse one), norm, norm_place, feed_forward: see
    edgetfm.layers.parts; experts of a mixture, of which each token takes `chosen`, trained with
    the loss of `balance`. embedding_norm: whether the embeddings are normalized. scaled: whether
    words are multiplied by the root of the width. tied: whether the head is the table of words.
    head_bias: whether the logits have a bias.
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
    attention: str = "dense"
    window: int = 64
    norm: str = "layer"
    norm_place: str = "post"
    feed_forward: str = "plain"
    experts: int = 8
    chosen: int = 2
    balance: float = 0.01
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
                *("inner", "decoder_inner", "context", "window", "experts", "chosen"),
            ),
            divides=(("heads", "width"), ("decoder_heads", "width")),
            at_most=(("chosen", "experts"),),
            words={"attention": ATTENTIONS, "norm": NORMS, "norm_place": PLACES,
                   "feed_forward": FEED_FORWARDS, "positions": POSITIONS},
        )  # fmt: skip
        check_head_size(self)

    @property
    def encoder_context(self) -> int:
        """The longest text to read."""
        return self.context


class Placed(nn.Module):
    """Words and where they stand."""

    def __init__(self, c: TransformerConfig) -> None:
        super().__init__()
        kind = nn.Embedding if c.positions == "learned" else SinusoidalPositions
        self.positions = kind(c.context, c.width)
        self.norm = make_norm(c.norm, c.width, c.eps) if c.embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, past: int = 0) -> Tensor:
        """[batch, sequence, width] in and out; `past` tokens stand before."""
        places = torch.arange(x.shape[1], device=x.device) + past
        out: Tensor = self.dropout(self.norm(x + self.positions(places)))
        return out


def _encoder_layer(c: TransformerConfig) -> EncoderLayer:
    attention = make_attention(c.attention, c.width, c.heads, window=c.window, dropout=0.0)
    return EncoderLayer(c, attention, feed_forward_of(c, c.inner, sequence_first=True))


class Encoder(nn.Module):
    """Embedded tokens to what the decoder attends to."""

    def __init__(self, c: TransformerConfig) -> None:
        super().__init__()
        self.attention = c.attention
        self.placed = Placed(c)
        self.layers = nn.ModuleList(_encoder_layer(c) for _ in range(c.layers))
        self.norm = last_norm(c)

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        """[batch, encoder_sequence, width] in and out."""
        seen = seen_by(self.attention, attention_mask)
        x = self.placed(x).transpose(0, 1)
        for layer in self.layers:
            x = layer(x, seen)
        out: Tensor = self.norm(x).transpose(0, 1)
        return out


class Decoder(nn.Module):
    """Embedded tokens and a past to hidden states."""

    def __init__(self, c: TransformerConfig) -> None:
        super().__init__()
        self.placed = Placed(c)
        self.layers = nn.ModuleList(
            decoder_layer(c, feed_forward_of(c, c.decoder_inner)) for _ in range(c.decoder_layers)
        )
        self.norm = last_norm(c)

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
    read.refuse("share_encoder_decoder_embeddings", allowed=(True, None))
    values: dict[str, Any] = dict(
        **sizes_from_hf(read),
        context=read.size("max_position_embeddings"),
        positions="learned" if bart else "sinusoidal",
        embedding_norm=bart,
        head_bias=True,
    )
    read.finish()
    return TransformerConfig(**values)


def _config_to_hf(c: TransformerConfig, task: str) -> dict[str, Any]:
    """The config.json of this model, by the type whose positions it has.

    Programs that run its graphs ask for no more. Where it has what neither BART nor Marian has,
    such as norms before, transformers' own modules cannot take its weights.
    """
    learned = c.positions == "learned"
    return {
        "model_type": "bart" if learned else "marian",
        "architectures": ["BartForConditionalGeneration" if learned else "MarianMTModel"],
        "max_position_embeddings": c.context,
        **sizes_to_hf(c),
    }


FAMILY = Family(
    name="transformer",
    tasks=("text2text-generation", "translation", "summarization"),
    config=TransformerConfig,
    build=_build,
    inputs=text_inputs,
    outputs=whole_outputs,
    cache=cache_of,
    to_hf=_config_to_hf,
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
