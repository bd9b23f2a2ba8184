"""GPT-2: a pre-norm decoder with learned positions and tied embeddings, unless words say other.

Radford et al. 2019, "Language models are unsupervised multitask learners"; the code is at
https://github.com/openai/gpt-2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from edgetfm.errors import SourceError
from edgetfm.layers.feed_forward import ACTIVATIONS
from edgetfm.layers.grouped_query import Cache, GroupedQueryAttention, Timeline
from edgetfm.layers.parts import FEED_FORWARDS, NORMS, PLACES
from edgetfm.layers.rotary import Rotary
from edgetfm.layers.sinusoids import SinusoidalPositions
from edgetfm.models._config import InContext, check_config
from edgetfm.models._decoder import (
    CausalLayer,
    CausalModel,
    cache_of,
    decoder_inputs,
    decoder_outputs,
)
from edgetfm.models._family import Drop, Family, FromHF, Rename, Transpose
from edgetfm.models._hf import Reader
from edgetfm.models._layers import feed_forward_of, last_norm

POSITIONS = ("learned", "sinusoidal", "rotary")


@dataclass(frozen=True)
class GPTConfig(InContext):
    """The sizes of a decoder, and the words that choose its parts.

    context: the most tokens, prompt and answer together. scaled: whether scores are divided by
    the root of a head's size; scaled_by_layer: and by the number of the layer, the first being 1.
    key_heads: keys and values that the heads share, 0 is one each. norm, norm_place,
    feed_forward: see `edgetfm.layers.parts`. experts, chosen, balance: of a feed_forward that is
    moe, as in `MoEConfig`. positions: one of POSITIONS.
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
    attention: str = "dense"
    key_heads: int = 0
    norm: str = "layer"
    norm_place: str = "pre"
    feed_forward: str = "plain"
    experts: int = 8
    chosen: int = 2
    balance: float = 0.01
    positions: str = "learned"

    def __post_init__(self) -> None:
        if self.attention in ("sparse", "linear"):
            raise SourceError(
                f"attention is {self.attention!r}, but gpt writes a token at a time over a cache, "
                "which is dense: a token looks at few others as it is. Take dense with fewer "
                "key_heads, the family memory for texts without end, or the family bert"
            )
        check_config(
            self,
            counts=("vocabulary", "width", "layers", "heads", "inner", "context", "experts",
                    "chosen"),
            divides=(("heads", "width"), ("kv_heads", "heads")),
            at_most=(("chosen", "experts"),),
            words={"attention": ("dense",), "norm": NORMS, "norm_place": PLACES,
                   "feed_forward": FEED_FORWARDS, "positions": POSITIONS},
        )  # fmt: skip

    @property
    def kv_heads(self) -> int:
        """The heads of keys and values."""
        return self.key_heads or self.heads

    @property
    def head_size(self) -> int:
        """The units of a head."""
        return self.width // self.heads

    @property
    def sees(self) -> None:
        """A token sees all tokens before it."""
        return None


def _layer(c: GPTConfig, number: int) -> CausalLayer:
    scale = c.head_size**-0.5 if c.scaled else 1.0
    attention = GroupedQueryAttention(
        c.width,
        c.heads,
        c.kv_heads,
        c.head_size,
        scale=scale / number if c.scaled_by_layer else scale,
        qkv_bias=True,
        out_bias=True,
    )
    return CausalLayer(c, attention, feed_forward_of(c, c.inner))


class GPT(CausalModel):
    """The decoder; its tokens stand where a table says, or turn."""

    def __init__(self, c: GPTConfig, task: str) -> None:
        super().__init__(c)
        if c.positions == "rotary":
            self.add_tables(Rotary())
        else:
            kind = nn.Embedding if c.positions == "learned" else SinusoidalPositions
            self.positions = kind(c.context, c.width)
        self.dropout = nn.Dropout(c.dropout)
        self.layers = nn.ModuleList(_layer(c, i + 1) for i in range(c.layers))
        self.norm = last_norm(c)
        self.add_head()

    def begun(self, input_ids: Tensor, timeline: Timeline) -> Tensor:
        """[batch, sequence, width]."""
        x: Tensor = self.words(input_ids)
        if self.config.positions != "rotary":
            x = x + self.positions(timeline.places(input_ids.shape[1]))
        x = self.dropout(x)
        return x

    def tables(self, layer: nn.Module) -> Cache | None:
        """None unless the tokens turn."""
        return (self.cos, self.sin) if self.config.positions == "rotary" else None


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
