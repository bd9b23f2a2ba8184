"""A measurement beside an older one: slower by more than both of them scatter is a failure."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgetfm.errors import BudgetError, InputError, listed

LEAST = 0.05
"""The share that medians of the same program differ by from process to process on a quiet machine:
ratios at one thread agree within 3 %, and both medians may stray."""

SHORTEST, LONGEST = 1e-6, 1e9
"""Milliseconds between which every call is: a nanosecond, and eleven days."""

MOST_SCATTER = 100
"""Times the median that a 95th percentile may be: beside more, nothing would count as slower."""

SAME = ("precision", "device", "batch", "sequence", "threads")
"""What two measurements must have alike to be comparable, beside the model and the CPU."""


def check_regression(
    new: Mapping[str, Any], old: Mapping[str, Any], old_file: str | os.PathLike[str]
) -> dict[str, Any]:
    """Hold a `bench` result against an older one, which `read_measured` read from a file.

    Returns {"ratio", "bound", "same_files"}: the new median over the old, and what it may be: 1 and
    the larger of the two spreads (95th percentile above the median, as a share), at least LEAST;
    whether graph and weights are the same to the byte, or the same model was exported anew.
    BudgetError if it is more; InputError for what measured something else, also another model.
    """
    differ = [
        f"{field} was {old.get(field)}, it is {new.get(field)}"
        for field in SAME
        if old.get(field) != new.get(field)
    ]
    cpus = [side.get("machine", {}).get("cpu") for side in (old, new)]
    if cpus[0] != cpus[1]:
        differ.append(f"the CPU was {cpus[0]}, it is {cpus[1]}")
    if old.get("model") != new.get("model"):
        differ.append(f"the model was {_named(old)}, it is {_named(new)}")
    if differ:
        raise InputError(f"{old_file} measured something else:\n{listed(differ)}")
    medians = [side["latency_ms"]["p50"] for side in (old, new)]
    spread = max(side["latency_ms"]["p95"] / side["latency_ms"]["p50"] - 1 for side in (old, new))
    ratio, bound = medians[1] / medians[0], 1 + max(LEAST, spread)
    if ratio > bound:
        raise BudgetError(
            f"slower than {old_file} says: {medians[1]:.2f} ms, it was {medians[0]:.2f} ms "
            f"({ratio:.2f}x, the scatter allows {bound:.2f}x)"
        )
    return {
        "ratio": round(ratio, 4),
        "bound": round(bound, 4),
        "same_files": old.get("files") == new.get("files"),
    }


def _named(side: Mapping[str, Any]) -> str:
    """The model of a measurement, by its name and the hash of its source."""
    model = side.get("model")
    if not isinstance(model, dict):
        return "not said"
    told = hashlib.sha256(json.dumps(model, sort_keys=True).encode()).hexdigest()
    return f"{model.get('name')} ({model.get('task')}, {told[:8]})"


def read_measured(old_file: str | os.PathLike[str]) -> dict[str, Any]:
    """What `bench --json` wrote into a file; InputError for one that holds none."""
    file = Path(old_file)
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        held = [data["latency_ms"][key] for key in ("p50", "p95")]
        if not all(type(ms) in (int, float) and SHORTEST <= ms <= LONGEST for ms in held):
            raise ValueError(f"times must be numbers from {SHORTEST:.0e} to {LONGEST:.0e}")
        if not 1 <= held[1] / held[0] <= MOST_SCATTER:
            raise ValueError(
                f"the 95th percentile, {held[1]}, must be from the median, {held[0]}, to "
                f"{MOST_SCATTER} times of it"
            )
        if not isinstance(data.setdefault("machine", {}), dict):
            raise ValueError("'machine' must be an object")
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{file} is no result of `edgetfm bench --json`: {error}") from error
    found: dict[str, Any] = data
    return found
