"""What a model of several senses at once is proven on: every subset of them is there once."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.signature import Feeds, Signature

BATCHES = (1, 2, 5, 8)


def joint_cases(
    preprocessor: Preprocessor, signature: Signature, senses: Sequence[str], items: Sequence[Any]
) -> list[Feeds]:
    """The same batches every time; the rows of one have different senses, and texts of all lengths.

    items: a tuple each, a part for each sense. A graph of a fixed batch gets no other.
    """
    fixed = signature.inputs[0].shape[0]
    subsets = [chosen for chosen in product((True, False), repeat=len(senses)) if any(chosen)]
    cases, row = [], 0
    for batch in (fixed,) * 3 if isinstance(fixed, int) else BATCHES:
        rows = []
        for _ in range(batch):
            whole, chosen = items[row % len(items)], subsets[row % len(subsets)]
            rows.append(tuple(p if c else None for p, c in zip(whole, chosen, strict=True)))
            row += 1
        cases.append(signature.check(preprocessor.inputs(senses, rows)))
    return cases
