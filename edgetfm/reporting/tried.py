"""What was tried, as data: the form that `Tried.to_json` gives and that reports are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgetfm.manifest import Manifest

Item = Mapping[str, Any]
"""One variant that was tried."""


def name_of(item: Item) -> str:
    """What a variant is called: its own name, else its precision."""
    return str(item.get("name") or item["precision"])


def judged(item: Item) -> Mapping[str, Any]:
    """The measures of the output that its budget is about, the last; none for fp32."""
    measures = list(item.get("measures", {}).values())
    return measures[-1] if measures else {}


@dataclass(frozen=True)
class Metric:
    """The task's own metric on labelled data, and the share of fp32's value that is lost."""

    name: str
    value: float
    lost: float


def metric_of(item: Item) -> Metric | None:
    """The metric of a variant, as its rung of the ledger has it; None without labelled data."""
    found = item.get("metric") or {}
    if "name" not in found:
        return None
    value = float(found["value"])
    reference = float(found.get("reference", value))
    lost = float(found.get("lost", (reference - value) / (abs(reference) or 1.0)))
    return Metric(str(found["name"]), value, 0.0 if lost <= 0 else lost)  # NaN stays what it is


def chosen_of(manifest: Manifest, tried: Sequence[Item]) -> str:
    """The name of the variant that ships by default; its precision if it was not tried.

    Several may have its precision: it is the one made by the recipe in the manifest.
    """
    variants = next(iter(manifest.components.values())).variants
    variant = variants.get(manifest.default)
    named = [item for item in tried if item["precision"] == manifest.default]
    if len(named) > 1 and variant is not None:
        named = [item for item in named if _lists(item.get("recipe")) == _lists(variant.recipe)]
    return name_of(named[0]) if named else manifest.default


def _lists(recipe: Any) -> Any:
    """A recipe as JSON gives it back."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in (recipe or {}).items()}
