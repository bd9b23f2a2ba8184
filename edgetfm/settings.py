"""What a manifest may set of onnxruntime: it may be somebody else's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CONFIG_ENTRIES = (
    "mlas.enable_gemm_fastmath_arm64_bfloat16",
    "optimization.disable_specified_optimizers",
    "optimization.enable_gelu_approximation",
    "session.disable_prepacking",
    "session.inter_op.allow_spinning",
    "session.intra_op.allow_spinning",
    "session.qdq_matmulnbits_accuracy_level",
    "session.qdqisint8allowed",
    "session.set_denormal_as_zero",
    "session.x64quantprecision",
)
"""The entries that are allowed: others reach outside the bundle's folder or hide a fallback."""


def problems_of(settings: Mapping[str, Any]) -> list[str]:
    """What is wrong with {"disabled_optimizers": [name, ...], "config_entries": {key: value}}."""
    problems = [
        f"unknown session setting {key!r} (known are disabled_optimizers, config_entries)"
        for key in settings
        if key not in ("disabled_optimizers", "config_entries")
    ]
    disabled, entries = settings.get("disabled_optimizers", ()), settings.get("config_entries", {})
    if not isinstance(disabled, (list, tuple)) or not all(map(_is_text, disabled)):
        problems.append("disabled_optimizers must be a list of names")
    if not isinstance(entries, Mapping):
        return [*problems, f"config_entries is {entries!r:.60}, it must be a table of text values"]
    for key, value in entries.items():
        if key not in CONFIG_ENTRIES:
            allowed = ", ".join(CONFIG_ENTRIES)
            problems.append(f"config entry {key!r} is not allowed (allowed: {allowed})")
        elif not _is_text(value):
            problems.append(f"config entry '{key}' is {value!r:.60}, it must be text")
    return problems


def _is_text(value: Any) -> bool:
    """Whether it is text that UTF-8 can hold: half of a surrogate pair is none."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)
