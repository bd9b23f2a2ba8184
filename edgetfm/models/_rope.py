"""What Llama and its kin share: rotary positions, and how Hugging Face tells of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgetfm.layers.rotary import SCALINGS, Rotary
from edgetfm.models._family import Drop, Rename
from edgetfm.models._hf import Reader

NAMES = (
    Rename(r"^model\.", ""),
    Drop(r"rotary_emb\.inv_freq$"),  # a buffer of old checkpoints
    Rename(r"^embed_tokens\.", "words."),
    Rename(r"^lm_head\.", "head."),
    Rename(r"\.self_attn\.o_proj\.", ".attention.out."),
    Rename(r"\.self_attn\.([qkv])_proj\.", r".attention.\1."),
)
"""The names of weights around the layers and in their attention."""


class RotaryWords:
    """A config with the words of `Rotary`, each behind rope_."""

    rope_base: float
    rope_scaling: str
    rope_factor: float
    rope_original: int
    rope_low: float
    rope_high: float
    rope_amplitude: float

    @property
    def rotary(self) -> Rotary:
        """The positions, of global layers where there are others."""
        return Rotary(
            self.rope_base, self.rope_scaling, self.rope_factor, self.rope_original,
            self.rope_low, self.rope_high, self.rope_amplitude,
        )  # fmt: skip


def read_sizes(hf: Mapping[str, Any], read: Reader) -> dict[str, Any]:
    """The sizes of a decoder, and whether its head is its table of words."""
    heads, width = read.size("num_attention_heads"), read.size("hidden_size")
    kv_heads = read.whole("num_key_value_heads", heads)
    read.divides("num_key_value_heads", max(1, kv_heads), "num_attention_heads", heads)
    return {
        "vocabulary": read.size("vocab_size"),
        "width": width,
        "layers": read.size("num_hidden_layers"),
        "heads": heads,
        "kv_heads": kv_heads,
        "head_size": read.whole("head_dim", width // heads),
        "inner": read.size("intermediate_size"),
        "context": read.size("max_position_embeddings"),
        "tied": bool(hf.get("tie_word_embeddings", False)),
    }


def read_rotary(hf: Mapping[str, Any], read: Reader) -> tuple[dict[str, Any], float]:
    """The fields rope_* of global layers, and the base of local ones (0: the same tables)."""
    given = hf.get("rope_parameters")
    if not isinstance(given, Mapping):
        read.problems.append(f"rope_parameters is {given!r:.80}, expected a table")
        return {}, 0.0
    local_base = 0.0
    if "full_attention" in given:
        local = Reader(given.get("sliding_attention") or {}, read.family)
        local.one_of("rope_type", ("default",), "default")
        local_base = local.number("rope_theta", 10_000.0)
        read.take(local, "rope_parameters of local layers")
        given = given["full_attention"]
    rope = Reader(given, read.family)
    scaling = rope.one_of("rope_type", SCALINGS, "default")
    rope.refuse("partial_rotary_factor", allowed=(1.0, 1, None))
    rope.refuse("truncate", allowed=(True, None))
    factor = rope.number("factor", 1.0)
    values: dict[str, Any] = {"rope_base": rope.number("rope_theta", 10_000.0)}
    if scaling in ("linear", "llama3", "yarn"):
        values |= {"rope_scaling": scaling, "rope_factor": factor}
    if scaling in ("llama3", "yarn"):
        values["rope_original"] = rope.size("original_max_position_embeddings")
    if scaling == "llama3":
        values["rope_low"] = rope.number("low_freq_factor", 1.0)
        values["rope_high"] = rope.number("high_freq_factor", 4.0)
    if scaling == "yarn":
        values["rope_low"] = rope.number("beta_slow", 1.0)
        values["rope_high"] = rope.number("beta_fast", 32.0)
        values["rope_amplitude"] = _amplitude(rope, factor)
    read.take(rope, "rope_parameters")
    return values, local_base


def _amplitude(rope: Reader, factor: float) -> float:
    """What yarn multiplies its tables by: 0.1 ln(factor) + 1 if the config does not say."""

    def size(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    given = rope.number("attention_factor", 0.0)
    one, all_ = rope.number("mscale", 0.0), rope.number("mscale_all_dim", 0.0)
    if given:
        return given
    return size(one) / size(all_) if one and all_ else size(1.0)
