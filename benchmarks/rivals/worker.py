"""A rival's side of the conversation: python worker.py MODULE CORE.

Runs in the rival's own environment, so it imports numpy and the rival's module and nothing else.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from serving import serve

WARMUP = 3


def answer(rival: Any, request: dict[str, Any]) -> dict[str, Any]:
    if request["op"] == "embed":
        return {"embeddings": [rival.run(row(ids)).mean(axis=0).tolist() for ids in request["ids"]]}
    if request["op"] == "time":
        return measure(rival, row(request["ids"]), request["calls"])
    raise ValueError(f"unknown op {request['op']!r}")


def row(ids: list[int]) -> np.ndarray:
    return np.asarray([ids], dtype=np.int64)


def measure(rival: Any, ids: np.ndarray, calls: int) -> dict[str, float]:
    """The clock says what a user waits; processor time says whether the core was shared."""
    for _ in range(WARMUP):  # the workers before this one have emptied the caches
        rival.run(ids)
    wall, cpu = [], []
    for _ in range(calls):
        started, used = time.perf_counter(), time.process_time()
        rival.run(ids)
        wall.append(1e3 * (time.perf_counter() - started))
        cpu.append(1e3 * (time.process_time() - used))
    return {"wall_ms": statistics.median(wall), "cpu_ms": statistics.median(cpu)}


if __name__ == "__main__":
    serve(answer, free_until_ready=True)
