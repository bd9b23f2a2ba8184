"""How fast a bundle answers on a device outside this process, by that device's own clock."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from edgetfm.bundle import open_bundle
from edgetfm.errors import DeviceError
from edgetfm.runtime.bench import (
    at_least_one,
    feeds_for,
    measured_thing,
    percentiles,
    sequence_of,
    writes,
)
from edgetfm.runtime.devices import Device
from edgetfm.runtime.machine import machine
from edgetfm.runtime.remote.replay import replay


def bench_there(
    path: str | os.PathLike[str],
    device: Device,
    *,
    precision: str | None,
    batch: int,
    sequence: int,
    threads: int | None,
    runs: int,
) -> dict[str, Any]:
    """In the form of edgetfm.runtime.bench; peak_memory_mb, too, is anonymous memory, of the
    runner's process while it loads and first asks, above its imports; None without /proc.

    Raises DeviceError for a device whose times mean nothing, for what writes token by token, whose
    steps are timed in this process alone, and where nodes fell back to the CPU.
    """
    at_least_one(batch=batch, sequence=sequence, runs=runs)
    bundle = open_bundle(path)
    precision = bundle.manifest.default if precision is None else precision
    if device.proves != "measured":
        raise DeviceError(
            f"{device.name} is {device.proves}: it has no times worth printing "
            f"(edgetfm verify --device {device.name} has its answers)"
        )
    if writes(bundle):
        raise DeviceError(f"what writes token by token is not timed on {device.name}, only on cpu")
    threads = threads or 1
    result = replay(
        bundle.graph(precision),
        {name: c.signature for name, c in bundle.manifest.components.items()},
        [feeds_for(bundle, batch, sequence)],
        device,
        settings=bundle.manifest.session,
        runs=runs,
        threads=threads,
    )
    peak = result.peak_bytes
    here = {} if device.reach == "adb" else machine()
    return {
        "latency_ms": percentiles(np.array(result.times_ms)),
        "generation": None,
        "load_ms": round(result.load_ms, 2),
        "peak_memory_mb": None if peak is None else round(peak / 1e6, 1),
        **measured_thing(bundle, precision),
        "batch": batch,
        "sequence": sequence_of(bundle.manifest.signature, sequence),
        "threads": threads,
        "runs": runs,
        "device": device.name,
        "placement": result.placement or {},
        "session": dict(bundle.manifest.session),
        "machine": {**here, **result.machine, "onnxruntime": result.runtime.split()[-1]},
    }
