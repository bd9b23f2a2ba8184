"""Latency of a bundle."""

from __future__ import annotations

from typing import Any

from edgetfm.progress import Progress, quiet
from edgetfm.runtime.devices import device_named, devices_named
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
    """Latency, load time and peak memory of a bundle; see edgetfm.runtime.bench for the fields.

    A device outside this process is asked as `verify` does, and times itself: DeviceError if it is
    an emulated one, whose times mean nothing, or one that is only looked at.
    """
    from edgetfm.runtime.bench import bench
    from edgetfm.runtime.remote.bench import bench_there

    device = device.strip()  # as in the lists that `verify` takes
    row = device_named(device)
    if not row.is_here:
        (ready,) = devices_named(device) if row.proves == "measured" else (row,)
        progress(f"measuring on {device}", 0, 0)
        return bench_there(
            path,
            ready,
            precision=precision,
            batch=batch,
            sequence=sequence,
            threads=threads,
            runs=runs,
        )
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
