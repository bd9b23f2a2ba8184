"""What `edgetfm bench --sweep` measured, as people read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from edgetfm.cli._table import hanging, table


def sweep_text(data: Mapping[str, Any], axes: Iterable[str]) -> str:
    """A line for each combination that was measured, and for each that could not be."""
    rows = [
        [
            *(str(row[axis]) for axis in axes),
            f"{row['latency_ms']['p50']:.2f} ms",
            f"{row['latency_ms']['p95']:.2f} ms",
            f"{row['load_ms']:.0f} ms",
            "" if row["peak_memory_mb"] is None else f"{row['peak_memory_mb']} MB",
        ]
        for row in data["rows"]
        if "error" not in row
    ]
    text = table([*axes, "median", "95th percentile", "load", "memory"], rows)
    failed = [
        f"{', '.join(f'{axis} {row[axis]}' for axis in axes)}: {row['error']}"
        for row in data["rows"]
        if "error" in row
    ]
    return "\n\n".join([text, *("\n".join(hanging("", line)) for line in failed)])
