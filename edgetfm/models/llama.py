"""Decoders with RMS norms, rotary positions and gated feed-forwards: Llama and its kin.

Touvron et al. 2023, https://arxiv.org/abs/2302.13971; Mistral adds a sliding window, Qwen2 a bias
of query, key and value, Qwen3 and Gemma 3 a norm of each head, Gemma 3 more norms and two kinds
of layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from edgetfm.errors import SourceError
from edgetfm.layers.feed_forward import ACTIVATIONS, GatedFeedForward
from edgetfm.layers.grouped_query import Cache, GroupedQueryAttention, Timeline
from edgetfm.layers.norms import RMSNorm
from edgetfm.layers.rotary import ROTARY_UNITS, Rotary
from edgetfm.models._config import InContext, check_config
from edgetfm.models._decoder import CausalModel, cache_of, decoder_inputs, decoder_outputs
from edgetfm.models._family import AddOne, Family, FromHF, Pack, Rename, Transpose, When
from edgetfm.models._hf import Reader
from edgetfm.models._rope import NAMES, RotaryWords, read_rotary, read_sizes


@dataclass(frozen=True)
class LlamaConfig(RotaryWords, InContext):
    """The sizes of a decoder.

    context: the most tokens, prompt and answer together. kinds: a letter a layer, `l` for local,
    which sees `window` tokens, and `g` for global; '' is all global. rope_*: see `Rotary`;
    rope_local_base: of local layers, which are never stretched, if it is not 0. query_size: the
    scores are divided by its root, by that of head_size if 0. embedding_scale: what the
    embeddings are multiplied by. sandwich: what a block gives is normalized too.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    context: int
    activation: str = "silu"
    eps: float = 1e-6
    tied: bool = False
    qkv_bias: bool = False
    out_bias: bool = False
    inner_bias: bool = False
    head_norms: bool = False
    sandwich: bool = False
    embedding_scale: float = 1.0
    query_size: float = 0.0
    window: int = 0
    kinds: str = ""
    rope_base: float = 10_000.0
    rope_local_base: float = 0.0
    rope_scaling: str = "default"
    rope_factor: float = 1.0
    rope_original: int = 0
    rope_low: float = 1.0
    rope_high: float = 4.0
    rope_amplitude: float = 1.0

    def __post_init__(self) -> None:
        check_config(
            self,
            counts=("vocabulary", "width", "layers", "heads", "kv_heads", "head_size", "inner",
                    "context"),
            divides=(("kv_heads", "heads"),),
            multiples={"head_size": ROTARY_UNITS},
        )  # fmt: skip
        if "l" in self.kinds and not self.window:
            raise SourceError(
                f"kinds is {self.kinds!r}, but window is 0: expected how many tokens local layers "
                "see, or kinds without l"
            )

    @property
    def sees(self) -> int | None:
        """How many tokens the layer that sees most sees; None is all of them."""
        return self.window if set(self.kinds) == {"l"} else None

    def is_local(self, layer: int) -> bool:
        """Whether a layer sees the last `window` tokens only."""
        return self.kinds[layer : layer + 1] == "l"


class Layer(nn.Module):
    """Attention and feed-forward, each of its normalized input and added to it."""

    def __init__(self, c: LlamaConfig, local: bool) -> None:
        super().__init__()
        self.local = local
        self.attention_norm = RMSNorm(c.width, c.eps)
        self.attention = GroupedQueryAttention(
            c.width,
            c.heads,
            c.kv_heads,
            c.head_size,
            scale=(c.query_size or c.head_size) ** -0.5,
            qkv_bias=c.qkv_bias,
            out_bias=c.out_bias,
            window=c.window if local else 0,
            norm_eps=c.eps if c.head_norms else None,
        )
        self.feed_forward_norm = RMSNorm(c.width, c.eps)
        self.feed_forward = GatedFeedForward(c.width, c.inner, c.activation, bias=c.inner_bias)
        nothing = nn.Identity
        self.after_attention = RMSNorm(c.width, c.eps) if c.sandwich else nothing()
        self.after_feed_forward = RMSNorm(c.width, c.eps) if c.sandwich else nothing()

    def forward(
        self, x: Tensor, timeline: Timeline, past: Cache, tables: Cache
    ) -> tuple[Tensor, Cache]:
        """`x` is [batch, sequence, width]."""
        mixed, present = self.attention(self.attention_norm(x), timeline, past, tables)
        x = x + self.after_attention(mixed)
        x = x + self.after_feed_forward(self.feed_forward(self.feed_forward_norm(x)))
        return x, present


class Llama(CausalModel):
    """The decoder; its local layers may have tables of their own."""

    local_cos: Tensor
    local_sin: Tensor

    def __init__(self, c: LlamaConfig, task: str) -> None:
        super().__init__(c)
        self.layers = nn.ModuleList(Layer(c, c.is_local(i)) for i in range(c.layers))
        self.norm = RMSNorm(c.width, c.eps)
        self.add_head()
        self.add_tables(c.rotary)
        if c.rope_local_base:
            self.add_tables(Rotary(c.rope_local_base), "local_")

    def begun(self, input_ids: Tensor, timeline: Timeline) -> Tensor:
        """[batch, sequence, width]."""
        x: Tensor = self.words(input_ids)
        return x * self.config.embedding_scale if self.config.embedding_scale != 1.0 else x

    def tables(self, layer: nn.Module) -> Cache:
        """Those of local layers, if they have any, or of all."""
        local = layer.local and self.config.rope_local_base
        return (self.local_cos, self.local_sin) if local else (self.cos, self.sin)


def _config_from_hf(hf: Mapping[str, Any], task: str) -> LlamaConfig:
    """The config of any of the five types; a SourceError for what the family cannot honour."""
    read = Reader(hf, "llama")
    gemma = read.model_type == "gemma3_text"
    read.refuse("pretraining_tp", allowed=(1, None))
    read.refuse("attn_logit_softcapping", allowed=(None,))
    read.refuse("final_logit_softcapping", allowed=(None,))
    read.refuse("use_bidirectional_attention", allowed=(False, None))
    sizes = read_sizes(hf, read)
    kinds = _kinds(hf, read, sizes["layers"])
    bias = bool(hf.get("attention_bias")) or read.model_type == "qwen2"
    rotary, local_base = read_rotary(hf, read)
    values: dict[str, Any] = dict(
        **sizes,
        activation=read.one_of("hidden_activation" if gemma else "hidden_act", ACTIVATIONS, "silu"),
        eps=read.number("rms_norm_eps", 1e-6),
        qkv_bias=bias,
        out_bias=bias and read.model_type != "qwen2",
        inner_bias=bool(hf.get("mlp_bias")),
        head_norms=gemma or read.model_type == "qwen3",
        sandwich=gemma,
        embedding_scale=sizes["width"] ** 0.5 if gemma else 1.0,
        query_size=read.number("query_pre_attn_scalar", 0.0) if gemma else 0.0,
        window=read.whole("sliding_window", 0) if "l" in kinds else 0,
        kinds=kinds,
        rope_local_base=local_base,
        **rotary,
    )
    if "l" in kinds and not values["window"]:
        read.problems.append("sliding_window is missing, but some layers are sliding_attention")
    read.finish()
    return LlamaConfig(**values)


_KINDS = {"full_attention": "g", "sliding_attention": "l"}


def _kinds(hf: Mapping[str, Any], read: Reader, layers: int) -> str:
    """A letter a layer, '' if all of them see everything."""
    types = hf.get("layer_types")
    if types is None:  # Mistral's window is for all layers, the others name each
        types = ["sliding_attention" if hf.get("sliding_window") else "full_attention"] * layers
    if not isinstance(types, list) or len(types) != layers:
        read.problems.append(f"layer_types is {types!r:.80}, expected one for each layer")
        return ""
    unknown = sorted({str(t) for t in types} - _KINDS.keys())
    if unknown:
        read.problems.append(
            f"layer_types has {', '.join(unknown)}, but llama only honours {', '.join(_KINDS)}"
        )
    kinds = "".join(_KINDS.get(str(t), "g") for t in types)
    return kinds if "l" in kinds else ""


_GEMMA = (
    Rename(r"\.post_attention_layernorm\.", ".after_attention."),
    Rename(r"\.pre_feedforward_layernorm\.", ".feed_forward_norm."),
    Rename(r"\.post_feedforward_layernorm\.", ".after_feed_forward."),
    AddOne(r"(norm|\.after_attention|\.after_feed_forward)\.weight$"),
)
"""Gemma 3 has four norms a layer, and stores each as its distance from 1."""

FAMILY = Family(
    name="llama",
    tasks=("text-generation",),
    config=LlamaConfig,
    build=Llama,
    inputs=decoder_inputs,
    outputs=decoder_outputs,
    cache=cache_of,
    from_hf=FromHF(
        model_types=("llama", "mistral", "qwen2", "qwen3", "gemma3_text"),
        config=_config_from_hf,
        weights=(
            *NAMES,
            Rename(r"\.self_attn\.([qk])_norm\.", r".attention.\1_norm."),
            Rename(r"\.mlp\.(gate|up|down)_proj\.", r".feed_forward.\1."),
            Rename(r"\.input_layernorm\.", ".attention_norm."),
            When(r"\.pre_feedforward_layernorm\.", _GEMMA),
            Rename(r"\.post_attention_layernorm\.", ".feed_forward_norm."),
            Pack(("q", "k", "v"), "qkv"),
            Pack(("gate", "up"), "gate_up"),
            Transpose(r"(\.|^)(qkv|out|gate_up|down|head)\.weight$"),
        ),
        elsewhere=r"^head\.",  # some checkpoints keep a copy of tied embeddings
    ),
)
