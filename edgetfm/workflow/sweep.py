"""A bundle timed in every combination of a few sizes, threads and devices."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

from edgetfm.errors import DeviceError, InputError, listed
from edgetfm.progress import Progress, quiet
from edgetfm.runtime.devices import device_named
from edgetfm.search.goal import AnyPath
from edgetfm.workflow.bench import bench_bundle

NUMBERS, NAMES = ("batch", "sequence", "threads"), ("device", "precision")
MOST = 200
"""Combinations that are measured in one go: by then a phone has worked for an hour."""


def parse_sweep(texts: Sequence[str]) -> dict[str, list[Any]]:
    """What 'threads=1,2' and the like say, axis -> values; InputError lists all that is wrong."""
    found: dict[str, list[Any]] = {}
    problems = []
    for text in texts:
        axis, _, listed_values = text.partition("=")
        values = list(dict.fromkeys(v.strip() for v in listed_values.split(",") if v.strip()))
        if axis not in (*NUMBERS, *NAMES):
            problems.append(f"'{axis}' cannot be swept, only {', '.join((*NUMBERS, *NAMES))}")
        elif not values:
            problems.append(f"'{text}' has no values: write {axis}=A,B")
        elif axis in found:
            problems.append(f"{axis} is swept twice")
        elif axis in NUMBERS and not all(v.isascii() and v.isdigit() and int(v) for v in values):
            problems.append(f"'{text}': each must be a number, 1 or more")
        else:
            found[axis] = [int(v) for v in values] if axis in NUMBERS else values
    if (count := _combinations(found)) > MOST:
        problems.append(f"{count} combinations are too many, at most {MOST} are measured in one go")
    if problems:
        raise InputError(listed(problems))
    return found


def _combinations(axes: Mapping[str, Sequence[Any]]) -> int:
    count = 1
    for values in axes.values():
        count *= len(values)
    return count


def sweep(
    path: AnyPath,
    axes: Mapping[str, Sequence[Any]],
    *,
    rest: float = 0,
    progress: Progress = quiet,
    **options: Any,
) -> dict[str, Any]:
    """`bench_bundle` in every combination of the axes, the last of them changing fastest.

    rest: seconds between two measurements, in which a phone cools down. options: what stays the
    same, as of `bench_bundle`. Returns {"rest", "rows"}: rows as `bench_bundle` gives them; where a
    device cannot run one its row is {**the values, "error"}. DeviceError if none could be run.
    """
    for name in axes.get("device", ()):
        device_named(name)
    combined = [
        dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())
    ]
    rows: list[dict[str, Any]] = []
    for number, chosen in enumerate(combined):
        if number:
            time.sleep(rest)
        progress("measuring " + ", ".join(f"{k} {v}" for k, v in chosen.items()), 0, 0)
        try:
            rows.append(bench_bundle(path, **{**options, **chosen}))
        except DeviceError as error:
            rows.append({**chosen, "error": str(error)})
    if all("error" in row for row in rows):
        raise DeviceError(listed(list(dict.fromkeys(row["error"] for row in rows))))
    return {"rest": rest, "rows": rows}
