"""T5: an encoder-decoder whose positions are learned biases of distances.

Raffel et al. 2020, "Exploring the limits of transfer learning with a unified text-to-text
transformer", https://arxiv.org/abs/1910.10683; gated feed-forwards are Shazeer 2020,
https://arxiv.org/abs/2002.05202.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from edgetfm.errors import SourceError
from edgetfm.layers.attention import SelfAttention, mask_bias
from edgetfm.layers.cross_attention import CrossAttention
from edgetfm.layers.feed_forward import ACTIVATIONS, FeedForward, GatedFeedForward
from edgetfm.layers.grouped_query import GroupedQueryAttention
from edgetfm.layers.norms import RMSNorm
from edgetfm.layers.relative_bias import DistanceBias
from edgetfm.models._config import check_config
from edgetfm.models._encoder_decoder import (
    TEXT_STAGES,
    Head,
    TextToText,
    Words,
    cache_of,
    check_head_size,
    text_inputs,
    whole_outputs,
)
from edgetfm.models._family import Family, FromHF, Pack, Rename, Transpose
from edgetfm.models._hf import Reader
from edgetfm.models._layers import DecoderLayer, EncoderLayer
from edgetfm.models._past import Past


@dataclass(frozen=True)
class T5Config:
    """The sizes of both halves.

    inner: units of a feed-forward; gated: whether it is down(activation(gate) * up). buckets,
    furthest: distances beyond `furthest` share one bucket. context, encoder_context: the longest
    texts worth writing and reading; there is no table that ends. scaled: whether the decoder's
    answer is divided by the root of the width before the head, as where the head is the table.
    """

    vocabulary: int
    width: int
    layers: int
    decoder_layers: int
    heads: int
    head_size: int
    inner: int
    activation: str = "relu"
    gated: bool = False
    buckets: int = 32
    furthest: int = 128
    context: int = 512
    encoder_context: int = 512
    eps: float = 1e-6
    dropout: float = 0.1
    tied: bool = True
    scaled: bool = True

    def __post_init__(self) -> None:
        check_config(
            self,
            counts=(
                *("vocabulary", "width", "layers", "decoder_layers", "heads", "head_size"),
                *("inner", "buckets", "furthest", "context", "encoder_context"),
            ),
        )
        check_head_size(self)
        if self.buckets < 4 or self.furthest <= self.buckets // 2:
            raise SourceError(
                f"{self.buckets} buckets for distances up to {self.furthest}: expected at least 4, "
                "and fewer than twice the furthest distance"
            )

    norm = "rms"
    norm_place = "pre"

    @property
    def decoder_heads(self) -> int:
        """Both halves have the same."""
        return self.heads

    @property
    def longest(self) -> int:
        """The most tokens a text to be read may have."""
        return self.encoder_context


def _feed_forward(c: T5Config) -> nn.Module:
    kind = GatedFeedForward if c.gated else FeedForward
    return kind(c.width, c.inner, c.activation, bias=False)


def _encoder_layer(c: T5Config) -> EncoderLayer:
    """The scores have no scale and nothing has a bias."""
    attention = SelfAttention(
        c.width,
        c.heads,
        head_size=c.head_size,
        scale=1.0,
        qkv_bias=False,
        out_bias=False,
        dropout=c.dropout,
    )
    return EncoderLayer(c, attention, _feed_forward(c))


def _decoder_layer(c: T5Config) -> DecoderLayer:
    attention = GroupedQueryAttention(c.width, c.heads, c.heads, c.head_size, scale=1.0)
    cross = CrossAttention(c.width, c.heads, c.head_size, scale=1.0, bias=False)
    return DecoderLayer(c, attention, cross, _feed_forward(c))


class Encoder(nn.Module):
    """Embedded tokens to what the decoder attends to."""

    def __init__(self, c: T5Config) -> None:
        super().__init__()
        self.distances = DistanceBias(c.heads, c.buckets, c.furthest)
        self.layers = nn.ModuleList(_encoder_layer(c) for _ in range(c.layers))
        self.norm = RMSNorm(c.width, c.eps)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        """[batch, encoder_sequence, width] in and out."""
        length = x.shape[1]
        bias = self.distances(length, length) + mask_bias(attention_mask)
        x = self.dropout(x).transpose(0, 1)
        for layer in self.layers:
            x = layer(x, bias)
        out: Tensor = self.dropout(self.norm(x)).transpose(0, 1)
        return out


class Decoder(nn.Module):
    """Embedded tokens and a past to hidden states."""

    def __init__(self, c: T5Config) -> None:
        super().__init__()
        self.distances = DistanceBias(c.heads, c.buckets, c.furthest, one_sided=True)
        self.layers = nn.ModuleList(_decoder_layer(c) for _ in range(c.decoder_layers))
        self.norm = RMSNorm(c.width, c.eps)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, past: Past, masked: Tensor | None) -> Tensor:
        """[batch, sequence, width] in and out."""
        timeline = past.timeline(x)
        bias = self.distances(x.shape[1], timeline.total)
        x = self.dropout(x)
        for number, layer in enumerate(self.layers):
            x = layer(x, number, past, timeline, masked, bias)
        out: Tensor = self.dropout(self.norm(x))
        return out


def _build(c: T5Config, task: str) -> TextToText:
    scale = c.width**-0.5 if c.scaled else 1.0
    head = Head(c.width, c.vocabulary, tied=c.tied, scale=scale)
    return TextToText(Words(c.vocabulary, c.width), Encoder(c), Decoder(c), head)


def _config_from_hf(hf: Mapping[str, Any], task: str) -> T5Config:
    """The config of a T5; a SourceError for what the family cannot honour."""
    read = Reader(hf, "t5")
    read.refuse("is_encoder_decoder", allowed=(True, None))
    kind, _, activation = str(hf.get("feed_forward_proj", "relu")).rpartition("-")
    if kind not in ("", "gated"):
        read.refuse("feed_forward_proj", allowed=("relu", "gated-gelu"))
    # A first gated-gelu was the tanh form, and is meant by this name ever since.
    named = {"act": "gelu_new" if (kind, activation) == ("gated", "gelu") else activation}
    act = Reader(named, "t5")
    layers = read.size("num_layers")
    # transformers ties every T5 unless the file has both; these are the rules of 1.0 and 1.1.
    first = bool(hf.get("scale_decoder_outputs", hf.get("tie_word_embeddings", True)))
    values: dict[str, Any] = dict(  # noqa: C408  (a call is what follows)
        vocabulary=read.size("vocab_size"),
        width=read.size("d_model"),
        layers=layers,
        decoder_layers=read.whole("num_decoder_layers", layers),
        heads=read.size("num_heads"),
        head_size=read.size("d_kv"),
        inner=read.size("d_ff"),
        activation=act.one_of("act", ACTIVATIONS, "relu"),
        gated=kind == "gated",
        buckets=read.whole("relative_attention_num_buckets", 32),
        furthest=read.whole("relative_attention_max_distance", 128),
        context=read.whole("n_positions", 512),
        encoder_context=read.whole("n_positions", 512),
        eps=read.number("layer_norm_epsilon", 1e-6),
        dropout=read.number("dropout_rate", 0.1),
        tied=first,
        scaled=first,
    )
    read.take(act, "feed_forward_proj")
    read.finish()
    return T5Config(**values)


def _projection(c: T5Config) -> str:
    names = {"gelu_new": "gelu", "gelu": "gelu_python"} if c.gated else {}
    return f"{'gated-' * c.gated}{names.get(c.activation, c.activation)}"


def _config_to_hf(c: T5Config, task: str) -> dict[str, Any]:
    """The config.json of this model: `_config_from_hf` makes the same config of it."""
    return {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        "is_encoder_decoder": True,
        "vocab_size": c.vocabulary,
        "d_model": c.width,
        "num_layers": c.layers,
        "num_decoder_layers": c.decoder_layers,
        "num_heads": c.heads,
        "d_kv": c.head_size,
        "d_ff": c.inner,
        "feed_forward_proj": _projection(c),
        "relative_attention_num_buckets": c.buckets,
        "relative_attention_max_distance": c.furthest,
        "n_positions": c.encoder_context,
        "layer_norm_epsilon": c.eps,
        "dropout_rate": c.dropout,
        "tie_word_embeddings": c.tied,
    }


FAMILY = Family(
    name="t5",
    tasks=("text2text-generation", "translation", "summarization"),
    config=T5Config,
    build=_build,
    inputs=text_inputs,
    outputs=whole_outputs,
    cache=cache_of,
    to_hf=_config_to_hf,
    stages=TEXT_STAGES,
    from_hf=FromHF(
        model_types=("t5",),
        config=_config_from_hf,
        weights=(
            Rename(r"^shared\.", "words."),
            Rename(r"\.block\.(\d+)\.", r".layers.\1."),
            Rename(
                r"\.layers\.0\.layer\.0\.SelfAttention\.relative_attention_bias\.", ".distances."
            ),
            Rename(r"\.layer\.0\.layer_norm\.", ".attention_norm."),
            Rename(r"\.layer\.0\.SelfAttention\.", ".attention."),
            Rename(r"\.attention\.o\.", ".attention.out."),
            Rename(r"^decoder\.(.*)\.layer\.1\.layer_norm\.", r"decoder.\1.cross_norm."),
            Rename(r"\.layer\.1\.EncDecAttention\.", ".cross."),
            Rename(r"\.cross\.o\.", ".cross.out."),
            Rename(r"\.cross\.k\.", ".cross.key."),
            Rename(r"\.cross\.v\.", ".cross.value."),
            Rename(r"\.layer\.[12]\.layer_norm\.", ".feed_forward_norm."),
            Rename(r"\.layer\.[12]\.DenseReluDense\.", ".feed_forward."),
            Rename(r"\.feed_forward\.wi_0\.", ".feed_forward.gate."),
            Rename(r"\.feed_forward\.wi(_1)?\.", ".feed_forward.up."),
            Rename(r"\.feed_forward\.wo\.", ".feed_forward.down."),
            Rename(r"\.final_layer_norm\.", ".norm."),
            Rename(r"^lm_head\.", "head."),
            Pack(("q", "k", "v"), "qkv"),
            Pack(("key", "value"), "kv"),
            Pack(("gate", "up"), "gate_up"),
            Transpose(r"(\.(q|kv|qkv|out|up|gate_up|down)|^head)\.weight$"),
        ),
        # Copies of the table, of a tied head too, and a bias that old checkpoints have too many of.
        elsewhere=r"^(head|(en|de)coder\.embed_tokens|.*\.cross\.relative_attention_bias)\.",
    ),
)
