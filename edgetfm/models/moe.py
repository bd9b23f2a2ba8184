"""A decoder whose feed-forwards are routed experts: Mixtral.

Jiang et al. 2024, https://arxiv.org/abs/2401.04088; everything but the experts is as in Llama.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from edgetfm.layers.experts import MixtureOfExperts
from edgetfm.layers.feed_forward import ACTIVATIONS, GatedFeedForward
from edgetfm.layers.grouped_query import GroupedQueryAttention, Timeline
from edgetfm.layers.norms import RMSNorm
from edgetfm.layers.rotary import ROTARY_UNITS
from edgetfm.models._config import InContext, check_config
from edgetfm.models._decoder import (
    CausalLayer,
    CausalModel,
    cache_of,
    decoder_inputs,
    decoder_outputs,
)
from edgetfm.models._family import Family, FromHF, Pack, Rename, Transpose
from edgetfm.models._hf import Reader
from edgetfm.models._rope import NAMES, RotaryWords, read_rotary, read_sizes


@dataclass(frozen=True)
class MoEConfig(RotaryWords, InContext):
    """The sizes of a decoder.

    experts: feed-forwards of a layer, each of `inner` units; chosen: how many a token takes.
    balance: the weight of `balance_loss` in training. context: the most tokens, prompt
    and answer together. window: a token sees itself and the window - 1 before it; 0 is all.
    rope_*: see `Rotary`.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    inner: int
    context: int
    experts: int = 8
    chosen: int = 2
    balance: float = 0.01
    activation: str = "silu"
    eps: float = 1e-5
    dropout: float = 0.0
    tied: bool = False
    window: int = 0
    rope_base: float = 10_000.0
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
                    "context", "experts", "chosen"),
            divides=(("kv_heads", "heads"),),
            multiples={"head_size": ROTARY_UNITS},
            at_most=(("chosen", "experts"),),
        )  # fmt: skip

    norm = "rms"
    norm_place = "pre"

    @property
    def sees(self) -> int | None:
        """How many tokens a layer sees; None is all of them."""
        return self.window or None


def _layer(c: MoEConfig) -> CausalLayer:
    attention = GroupedQueryAttention(
        c.width, c.heads, c.kv_heads, c.head_size, scale=c.head_size**-0.5, window=c.window
    )
    experts = MixtureOfExperts(
        c.width, c.experts, c.chosen, lambda: GatedFeedForward(c.width, c.inner, c.activation)
    )
    return CausalLayer(c, attention, experts)


class MoE(CausalModel):
    """The decoder; in training its embeddings are dropped too."""

    def __init__(self, c: MoEConfig, task: str) -> None:
        super().__init__(c)
        self.dropout = nn.Dropout(c.dropout)
        self.layers = nn.ModuleList(_layer(c) for _ in range(c.layers))
        self.norm = RMSNorm(c.width, c.eps)
        self.add_head()
        self.add_tables(c.rotary)

    def begun(self, input_ids: Tensor, timeline: Timeline) -> Tensor:
        """[batch, sequence, width]."""
        x: Tensor = self.dropout(super().begun(input_ids, timeline))
        return x


def _config_from_hf(hf: Mapping[str, Any], task: str) -> MoEConfig:
    """The config of a Mixtral; a SourceError for what the family cannot honour."""
    read = Reader(hf, "moe")
    sizes = read_sizes(hf, read)
    experts, chosen = read.size("num_local_experts"), read.size("num_experts_per_tok")
    if chosen > experts:
        read.problems.append(f"num_experts_per_tok is {chosen}, of {experts} num_local_experts")
    rotary, _ = read_rotary(hf, read)
    values: dict[str, Any] = dict(
        **sizes,
        experts=experts,
        chosen=chosen,
        balance=read.number("router_aux_loss_coef", 0.001),
        activation=read.one_of("hidden_act", ACTIVATIONS, "silu"),
        eps=read.number("rms_norm_eps", 1e-5),
        window=read.whole("sliding_window", 0),
        **rotary,
    )
    read.finish()
    return MoEConfig(**values)


FAMILY = Family(
    name="moe",
    tasks=("text-generation",),
    config=MoEConfig,
    build=MoE,
    inputs=decoder_inputs,
    outputs=decoder_outputs,
    cache=cache_of,
    from_hf=FromHF(
        model_types=("mixtral",),
        config=_config_from_hf,
        weights=(
            *NAMES,
            Rename(r"\.block_sparse_moe\.gate\.", ".feed_forward.router."),
            Rename(r"\.block_sparse_moe\.experts\.", ".feed_forward.experts."),
            Rename(r"(\.experts\.\d+)\.w1\.", r"\1.gate."),
            Rename(r"(\.experts\.\d+)\.w2\.", r"\1.down."),
            Rename(r"(\.experts\.\d+)\.w3\.", r"\1.up."),
            Rename(r"\.input_layernorm\.", ".attention_norm."),
            Rename(r"\.post_attention_layernorm\.", ".feed_forward_norm."),
            Pack(("q", "k", "v"), "qkv"),
            Pack(("gate", "up"), "gate_up"),
            Transpose(r"(\.|^)(qkv|out|router|gate_up|down|head)\.weight$"),
        ),
        elsewhere=r"^head\.",  # some checkpoints keep a copy of tied embeddings
    ),
)
