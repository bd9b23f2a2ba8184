"""Checkpoints that are quantized already: never rounded a second time without a word."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgetfm.errors import SourceError

_READERS = {
    "gptq": "the package gptqmodel, whose kernels hold them packed",
    "awq": "the package gptqmodel, whose kernels hold them packed",
    "bitsandbytes": "the package bitsandbytes, whose layers hold them packed",
    "compressed-tensors": "the package compressed-tensors",
    "fp8": "kernels for GPUs",
    "mxfp4": "kernels for GPUs",
}
"""quant_method -> what transformers reads such weights through."""


def refuse_quantized(config: Mapping[str, Any], folder: Path) -> None:
    """Raise a SourceError for a config that says its weights are quantized.

    What reads them hands out layers of its own, which have no graph, and floats made of them
    would be rounded a second time by any quantization here.
    """
    found = config.get("quantization_config")
    if not found:
        return
    settings = found if isinstance(found, Mapping) else {}
    method = str(settings.get("quant_method") or _unnamed(settings))
    bits = settings.get("bits") or settings.get("w_bit")
    how = f"by {method}" + (f" to {bits} bits" if isinstance(bits, int) else "")
    reader = _READERS.get(method, "a package of their own")
    raise SourceError(
        f"{folder} is quantized already, {how}: transformers reads such weights through {reader}, "
        "and rounding them again would add to the error. Give the float checkpoint that it was "
        "made of, and quantize that with --quantize"
    )


def _unnamed(settings: Mapping[str, Any]) -> str:
    """bitsandbytes' older files do not name it."""
    old = settings.get("load_in_4bit") or settings.get("load_in_8bit")
    return "bitsandbytes" if old else "a method that its config does not name"
