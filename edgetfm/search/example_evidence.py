"""Evidence for a module whose source brings example inputs, and the cases it is proven on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from edgetfm.errors import DataError
from edgetfm.search.array_evidence import batched, has_batch, how_to_give, read_items
from edgetfm.search.evidence import BATCH, JUDGE_SHARE, Evidence, split
from edgetfm.search.goal import Goal
from edgetfm.signature import Feeds, Signature


def of_examples(
    cases: Sequence[Feeds], examples: Feeds | None, signature: Signature, goal: Goal
) -> Evidence:
    """The cases that came with a module; to quantize, the user's arrays or else its examples.

    examples: arrays whose rows are items; None if they are noise. Raises DataError if there are
    too few to calibrate on and to judge by.
    """
    if not goal.quantizes:
        return Evidence(list(cases), [], [], {})
    if goal.calibration is not None:
        items, name, fingerprint = read_items(goal.calibration, signature, goal.samples)
    else:
        items = _rows(examples, signature)
        name, fingerprint = "the example inputs", _fingerprint(examples or {})
        if len(items) < JUDGE_SHARE:
            raise DataError(
                f"{len(items)} example inputs are too few to calibrate on: give "
                f"{how_to_give(signature)}"
            )
    fit, judge = (batched(part, signature, BATCH) for part in split(items[: goal.samples]))
    facts = {"name": name, "count": len(items), "sha256": fingerprint}
    return Evidence(list(cases), fit, judge, facts)


def _rows(examples: Feeds | None, signature: Signature) -> list[Feeds]:
    """One item a row, where the first axis of every input is the batch; else the whole as one."""
    if examples is None:
        return []
    if not has_batch(signature):
        return [examples]
    count = min(len(a) for a in examples.values())
    return [{name: a[i : i + 1] for name, a in examples.items()} for i in range(count)]


def _fingerprint(examples: Feeds) -> str:
    found = hashlib.sha256()
    for name, array in sorted(examples.items()):
        found.update(f"{name} {array.dtype} {array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()
