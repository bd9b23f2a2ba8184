"""A bundle on one device: its answers held against its own, and what the device said of itself."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgetfm.budget import Budget
from edgetfm.bundle import Bundle
from edgetfm.errors import DeviceError
from edgetfm.ledger import Rung
from edgetfm.proof import Subject, on_disk
from edgetfm.quantize.targets import TARGETS, objections
from edgetfm.runtime.devices import Device
from edgetfm.runtime.divergence import relative_error
from edgetfm.runtime.encoder_decoder import open_graph
from edgetfm.runtime.machine import runtime_version
from edgetfm.runtime.remote.job import Result
from edgetfm.runtime.remote.replay import replay, worth_asking
from edgetfm.runtime.session import without_spinning
from edgetfm.signature import BATCH, Feeds, Signature, is_batch
from edgetfm.stages import Graph
from edgetfm.vectors import Vectors, read_vectors, replay_rungs
from edgetfm.workflow.localise import diverging_node

TIMED = 5
"""Calls of which a table of devices shows the median. `edgetfm bench` makes more, and says more."""

OVERFLOWING = ("int8", "int8-static")
"""Precisions whose 8-bit products `--target` makes anew where their sums would overflow."""


def replayed(
    bundle: Bundle, precision: str, device: Device, *, allow_fallback: bool, alone: bool
) -> tuple[list[Rung], dict[str, Any]]:
    """The rungs of a variant on a device, and the device's row of the ledger.

    alone: whether a device that cannot run it raises its DeviceError instead of saying so in its
    row. Row: device, precision, proves (measured, emulated or static), placement (provider ->
    nodes, None where the runtime does not tell), runtime, load_ms (None unless measured),
    latency_ms (the median of TIMED calls of the largest case on one thread, None unless measured
    beside other devices), cases (how many were asked), error.
    """
    said: dict[str, Any] = {
        "device": device.name,
        "precision": precision,
        "proves": device.proves,
        "reach": device.reach,
        "placement": None,
        "runtime": None,
        "load_ms": None,
        "latency_ms": None,
        "cases": 0,
        "error": None,
    }
    vectors = read_vectors(bundle)
    try:
        _check(precision, device)
        if device.predict is not None:
            return [], said | _predicted(bundle, precision, device, vectors)
        if not device.is_here:
            vectors = _first(vectors, worth_asking(device, vectors.cases))
        runs = TIMED if device.proves == "measured" and not alone else 0
        asked = _Asked(bundle, precision, device, vectors.cases, allow_fallback, runs)
        answers, told = _here(asked) if device.is_here else _there(asked)
    except DeviceError as error:
        if alone:
            raise
        return [], said | {"error": str(error)}
    subject = Subject.of_bundle(bundle.manifest)
    budget = Budget.of_text(bundle.manifest.budget).of_answers
    name = f"{precision} on {device.name}"
    rungs = replay_rungs(subject, precision, name, answers, vectors, budget)
    if device.answer is not None and not all(r.passed for r in rungs):
        at = _furthest_off(answers, vectors)
        case = vectors.cases[at]
        if device.rows is not None:  # inside a graph nobody knows which axis is the rows'
            case = _row_furthest_off(case, answers[at], vectors.shipped[at], bundle)
        node = diverging_node(bundle, precision, device, case) + _cure(bundle, precision, device)
        rungs = [r if r.passed else replace(r, note=_joined(r.note, node)) for r in rungs]
    return rungs, said | told | {"cases": len(vectors.cases)}


def _check(precision: str, device: Device) -> None:
    """DeviceError if the device has no use for this form, or cannot take it."""
    target = TARGETS.get(device.target)
    if target is None or device.target == "cuda":  # what runs there slowly still answers
        return
    refused = objections(precision, [target]) if precision in target.refuses else []  # type: ignore[arg-type]
    if refused and device.fixed:
        raise DeviceError(
            f"{device.name} cannot run this bundle: {refused[0]}; "
            f"export it with --target {target.name}"
        )


def _predicted(bundle: Bundle, precision: str, device: Device, vectors: Vectors) -> dict[str, Any]:
    """What it would take at the sizes of the first case; nothing is run, so nothing is proven."""
    graph, predict = bundle.graph(precision), device.predict
    if not isinstance(graph, Path) or predict is None:
        raise DeviceError(f"{device.name} is predicted for one graph, this model has two")
    signature = bundle.manifest.signature
    sizes = {
        axis: size
        for spec in signature.inputs
        for axis, size in zip(spec.shape, vectors.cases[0][spec.name].shape, strict=True)
        if isinstance(axis, str)
    }
    found = predict(graph, {**sizes, BATCH: 1})
    placement = {device.provider: found.taken, "CPUExecutionProvider": found.nodes - found.taken}
    return {"placement": placement, "pieces": found.pieces, "would_refuse": found.refused}


@dataclass(frozen=True)
class _Asked:
    """What a variant is asked on a device. runs: how often its largest case is timed."""

    bundle: Bundle
    precision: str
    device: Device
    cases: Sequence[Feeds]
    allow_fallback: bool
    runs: int

    @property
    def graph(self) -> Graph:
        return self.bundle.graph(self.precision)

    @property
    def signatures(self) -> dict[str, Signature]:
        return {name: c.signature for name, c in self.bundle.manifest.components.items()}


def _here(asked: _Asked) -> tuple[Sequence[Feeds], dict[str, Any]]:
    """In this process."""
    session = open_graph(
        asked.graph,
        signatures=asked.signatures,
        device=asked.device.name,
        settings=without_spinning(asked.bundle.manifest.session),
        allow_fallback=asked.allow_fallback,
        threads=1 if asked.runs else None,
    )
    answers = [on_disk(session.run(feeds)) for feeds in asked.cases]
    times = []
    for _ in range(asked.runs):
        start = time.perf_counter()
        session.run(asked.cases[-1])
        times.append((time.perf_counter() - start) * 1e3)
    return answers, {
        "latency_ms": _median(times),
        "placement": dict(session.placement),
        "runtime": f"onnxruntime {runtime_version()}",
    }


def _there(asked: _Asked) -> tuple[Sequence[Feeds], dict[str, Any]]:
    """Where the device is reached."""
    result: Result = replay(
        asked.graph,
        asked.signatures,
        asked.cases,
        asked.device,
        settings=asked.bundle.manifest.session,
        allow_fallback=asked.allow_fallback,
        runs=asked.runs,
    )
    measured = asked.device.proves == "measured"
    return result.answers, {
        "latency_ms": _median(result.times_ms),
        "placement": result.placement,
        "runtime": result.runtime,
        "load_ms": round(result.load_ms, 2) if measured else None,
    }


def _median(times: Sequence[float]) -> float | None:
    return round(statistics.median(times), 3) if times else None


def _first(vectors: Vectors, count: int) -> Vectors:
    return Vectors(
        vectors.variant,
        vectors.cases[:count],
        vectors.pytorch[:count],
        vectors.shipped[:count],
    )


def _furthest_off(answers: Sequence[Feeds], vectors: Vectors) -> int:
    """The number of the case whose answer is least like the exporting CPU's."""
    errors = [
        max(relative_error(given[name], array) for name, array in shipped.items())
        for given, shipped in zip(answers, vectors.shipped, strict=True)
    ]
    return errors.index(max(errors))


def _row_furthest_off(case: Feeds, given: Feeds, shipped: Feeds, bundle: Bundle) -> Feeds:
    """Of a case the row whose answer is least alike; all of it where answers are not by row."""
    inputs = bundle.manifest.signature.inputs
    batched = {t.name for t in inputs if t.shape and is_batch(t.shape[0])}
    counts = {len(case[name]) for name in batched} | {len(a) for a in shipped.values() if a.ndim}
    if len(counts) != 1:
        return case
    errors = [
        max(relative_error(given[name][row], array[row]) for name, array in shipped.items())
        for row in range(counts.pop())
    ]
    row = errors.index(max(errors))
    return {n: a[row : row + 1] if n in batched else a for n, a in case.items()}


def _cure(bundle: Bundle, precision: str, device: Device) -> str:
    """What to do about a wrong answer where sums overflow and no product was made for it."""
    target = TARGETS.get(device.target)
    variants = [bundle.variant(precision, name) for name in bundle.manifest.components]
    cured = any(v.recipe.get("pair_safe") for v in variants)
    if target is None or not target.saturates or cured or precision not in OVERFLOWING:
        return ""
    return f"; --target {target.name} makes weights that do not overflow there"


def _joined(note: str, more: str) -> str:
    return f"{note}; {more}" if note else more
