"""Rotary positions as Hugging Face configs tell of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edgetfm.layers.rotary import SCALINGS
from edgetfm.models._hf import Reader


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
