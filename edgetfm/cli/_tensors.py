"""Tensors of a signature as people read them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_LAYER = re.compile(r"\.(\d+)\.")


def tensors_text(tensors: Iterable[Mapping[str, Any]]) -> str:
    """Tensors as `name dtype[axes]`; the alike of several layers as one, `past.0-29.key`."""
    layers: dict[str, list[int]] = {}
    for tensor in tensors:
        text = f"{tensor['name']} {tensor['dtype']}[{', '.join(map(str, tensor['shape']))}]"
        found = _LAYER.search(tensor["name"])
        alike = layers.setdefault(_LAYER.sub(".{}.", text, count=1) if found else text, [])
        alike += [int(found[1])] if found else []
    return ", ".join(
        text.replace(".{}.", f".{_numbers(of)}.", 1) if of else text for text, of in layers.items()
    )


def _numbers(of: Sequence[int]) -> str:
    first, last = of[0], of[-1]
    whole = len(of) > 1 and list(of) == list(range(first, last + 1))
    return f"{first}-{last}" if whole else ",".join(map(str, of))
