"""One step of a search: a candidate is made, or a note says why there is none."""

from __future__ import annotations

import math

from edgetfm.errors import QuantizationError
from edgetfm.quantize import Recipe
from edgetfm.search.candidates import Candidate, Workshop


def attempt(
    shop: Workshop,
    name: str,
    recipe: Recipe,
    note: str,
    room: float = math.inf,
    *,
    always: bool = False,
) -> Candidate | None:
    """The candidate; None out of time, or if onnxruntime does not run it.

    room: the share of the budget that it may use; what was asked for has its bounds alone.
    always: however late it is.
    """
    if shop.candidates and shop.out_of_time() and not always:
        shop.draft.notes.append(f"out of time: {name} was not tried (--time allows more)")
        return None
    try:
        return shop.make(name, recipe, note, room)
    except QuantizationError as error:
        shop.draft.notes.append(str(error))
        return None
