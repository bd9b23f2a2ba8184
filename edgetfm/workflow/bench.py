"""Latency of a bundle."""

from __future__ import annotations

from typing import Any

from edgetfm.progress import Progress, quiet
from edgetfm.search.goal import AnyPath


def bench_bundle(
    path: AnyPath,
    *,
    precision: str | None = None,
    device: str = "cpu",
    batch: int = 1,
    sequence: int = 128,
    threads: int | None = None,
    runs: int = 50,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Latency, load time and peak memory of a bundle; see edgetfm.runtime.bench for the fields."""
    from edgetfm.runtime.bench import bench

    return bench(
        path,
        precision=precision,
        device=device,
        batch=batch,
        sequence=sequence,
        threads=threads,
        runs=runs,
        progress=progress,
    )
