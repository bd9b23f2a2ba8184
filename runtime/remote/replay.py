"""A bundle's cases asked on a device outside this process."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetfm.errors import DeviceError
from edgetfm.runtime.devices import Device
from edgetfm.runtime.encoder_decoder import HIDDEN, SOURCE_MASK
from edgetfm.runtime.remote.job import Job, Result, Stage
from edgetfm.runtime.session import checked
from edgetfm.signature import (
    KEEP,
    PAST,
    SEQUENCE,
    TARGET,
    USE_CACHE,
    Array,
    Feeds,
    Signature,
    TensorSpec,
    is_batch,
)
from edgetfm.stages import DECODER, ENCODER, MODEL, Graph, parts

WORK = 256
"""How many numbers of an input's longest tensor are enough for a device whose time is dear."""


def worth_asking(device: Device, cases: Sequence[Feeds]) -> int:
    """How many of the cases, smallest first, a device is asked: of emulated ones a few.

    Two at least: the first is one row and sees no batch. Where sizes are fixed every row costs
    what the longest does.
    """
    if device.proves == "measured":
        return len(cases)
    spent = rows = longest = 0
    for number, case in enumerate(cases):
        largest = max(case.values(), key=np.size)
        rows += len(largest)
        longest = max(longest, largest.size // len(largest))
        spent = rows * longest if device.fixed else spent + largest.size
        if number >= 2 and spent > WORK:
            return number
    return len(cases)


@dataclass(frozen=True)
class Asked:
    """The cases as a device takes them, and how its answers become the cases' again.

    rows: for each of `feeds`, the case it belongs to.
    """

    feeds: list[Feeds]
    dimensions: list[dict[str, int]]
    of: list[int]


def replay(
    graph: Graph,
    signatures: Mapping[str, Signature],
    cases: Sequence[Feeds],
    device: Device,
    *,
    settings: Mapping[str, Any] | None = None,
    allow_fallback: bool = False,
    optimize: bool = True,
    outputs: Sequence[str] | None = None,
    runs: int = 0,
    threads: int = 1,
) -> Result:
    """The answers of a graph, or of an encoder-decoder's two, to cases of whole texts.

    signatures: of each component. outputs: of the graph; all of a whole text's if None.
    Raises DeviceError if the device cannot load or run it, takes no such batches, or, without
    `allow_fallback`, left nodes to the CPU: it names them.
    """
    given = outputs or [o.name for o in _outermost(signatures).of_whole_texts.outputs]
    asked = _as_taken(cases, signatures, device)
    stages, feeds = _stages(graph, signatures, asked.feeds, given)
    options = dict(device.options)
    if device.threads_option:
        options[device.threads_option] = str(threads)
    job = Job(
        stages,
        feeds,
        given,
        {"name": device.provider, "options": options, "library": device.module},
        checked(settings),
        asked.dimensions,
        threads=threads,
        runs=runs,
        optimize=optimize,
    )
    if device.answer is None:
        raise DeviceError(f"'{device.name}' runs in this process")
    with tempfile.TemporaryDirectory(prefix="edgetfm-") as place:
        job.write(Path(place))
        device.answer(Path(place))
        result = Result.read(Path(place), device.name)
    if result.fallen_back and not allow_fallback:
        raise DeviceError(
            f"{fallen(device.name, result)}; allow the fallback, or use another variant or device"
        )
    specs = {o.name: o for o in _outermost(signatures).of_whole_texts.outputs}
    joined = _joined(result.answers, asked, cases, specs)
    return Result(**{**result.__dict__, "answers": joined})


def fallen(device: str, result: Result) -> str:
    """In words, what a device left to the CPU."""
    what = ", ".join(f"{count} {op}" for op, count in sorted(result.fallen_back.items()))
    return f"{device} does not run all of it, these nodes fell back to the CPU: {what}"


def _outermost(signatures: Mapping[str, Signature]) -> Signature:
    """The signature whose outputs are the answer."""
    return signatures[MODEL] if MODEL in signatures else signatures[DECODER]


def _stages(
    graph: Graph,
    signatures: Mapping[str, Signature],
    cases: Sequence[Feeds],
    outputs: Sequence[str],
) -> tuple[tuple[Stage, ...], list[Feeds]]:
    """The graphs in their order, and the cases with all that they take: nothing is past."""
    paths = parts(graph)
    if MODEL in signatures:
        signature = signatures[MODEL]
        feeds = [_first_step(signature, case) for case in cases]
        takes = {name: name for name in feeds[0]}
        gives = {name: name for name in outputs}
        return (Stage(paths[MODEL], takes, gives),), feeds
    source, target = signatures[ENCODER], signatures[DECODER]
    renamed = {"input_ids": TARGET, SOURCE_MASK: "attention_mask", HIDDEN: HIDDEN}
    feeds = []
    for case in cases:
        step = _nothing_past(target, len(case[TARGET]))
        feeds.append({**case, **step})
    first = Stage(
        paths[ENCODER], {t.name: t.name for t in source.inputs}, {"last_hidden_state": HIDDEN}
    )
    takes = {t.name: renamed.get(t.name, t.name) for t in target.inputs}
    return (first, Stage(paths[DECODER], takes, {name: name for name in outputs})), feeds


def _first_step(signature: Signature, case: Feeds) -> Feeds:
    """The inputs of a graph that is asked about whole texts."""
    feeds = signature.whole_texts(case) if signature.has_cache else dict(case)
    if KEEP in {t.name for t in signature.inputs}:
        feeds.setdefault(KEEP, np.array(0, np.int64))
    return feeds


def _nothing_past(signature: Signature, batch: int) -> Feeds:
    step: Feeds = {}
    for spec in signature.inputs:
        if spec.name == USE_CACHE:
            step[spec.name] = np.array([False])
        elif spec.name.startswith(PAST):
            _, heads, _, size = spec.shape
            step[spec.name] = np.zeros((batch, int(heads), 0, int(size)), spec.dtype)
    return step


def _as_taken(cases: Sequence[Feeds], signatures: Mapping[str, Signature], device: Device) -> Asked:
    """The cases cut into the batches that the device takes, at the sizes it was compiled for."""
    if device.rows is None and not device.fixed:
        return Asked(list(cases), [{} for _ in cases], list(range(len(cases))))
    if MODEL not in signatures or signatures[MODEL].has_cache:
        raise DeviceError(
            f"{device.name} takes no free axes, and the cache of what writes text grows with it"
        )
    specs = {t.name: t for t in signatures[MODEL].inputs}
    wide = [
        str(spec)
        for spec in specs.values()
        if spec.shape and isinstance(spec.shape[0], int) and spec.shape[0] > (device.rows or 1)
    ]
    if wide:
        raise DeviceError(
            f"{device.name} takes batches of {device.rows} at most, this graph is fixed to more: "
            f"{', '.join(wide)}; export it with a free batch, or for --target {device.target}"
        )
    longest = max((a.shape[1] for case in cases for a in _texts(case, specs)), default=0)
    made = Asked([], [], [])
    for number, case in enumerate(cases):
        for row in range(_size(case, specs)):
            one = {
                name: array[row : row + 1] if _has_batch(specs[name]) else array
                for name, array in case.items()
            }
            if "attention_mask" in one:
                one = {n: _padded(a, specs[n], longest) for n, a in one.items()}
            made.feeds.append(one)
            made.dimensions.append(_dimensions(one, specs))
            made.of.append(number)
    return made


def _texts(case: Feeds, specs: Mapping[str, TensorSpec]) -> list[Array]:
    return [a for n, a in case.items() if SEQUENCE in specs[n].shape[1:2]]


def _has_batch(spec: TensorSpec) -> bool:
    return bool(spec.shape) and is_batch(spec.shape[0])


def _size(case: Feeds, specs: Mapping[str, TensorSpec]) -> int:
    return max((len(a) for n, a in case.items() if _has_batch(specs[n])), default=1)


def _padded(array: Array, spec: TensorSpec, length: int) -> Array:
    """A row of a text with zeros behind it, which the mask hides."""
    if SEQUENCE not in spec.shape:
        return array
    axis = spec.shape.index(SEQUENCE)
    widths = [(0, length - size if at == axis else 0) for at, size in enumerate(array.shape)]
    return np.pad(array, widths)


def _dimensions(case: Feeds, specs: Mapping[str, TensorSpec]) -> dict[str, int]:
    return {
        axis: size
        for name, array in case.items()
        for axis, size in zip(specs[name].shape, array.shape, strict=True)
        if isinstance(axis, str)
    }


def _joined(
    answers: Sequence[Feeds], asked: Asked, cases: Sequence[Feeds], specs: Mapping[str, TensorSpec]
) -> list[Feeds]:
    """The answers to the cases as they were: rows together again, what was padded cut off."""
    together: list[list[Feeds]] = [[] for _ in cases]
    for number, answer in zip(asked.of, answers, strict=True):
        together[number].append(answer)
    joined = []
    for parts_of, case in zip(together, cases, strict=True):
        length = case["attention_mask"].shape[1] if "attention_mask" in case else None
        whole = {}
        for name in parts_of[0]:
            arrays = [part[name] for part in parts_of]
            array = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
            shape = specs[name].shape if name in specs else ()
            if length is not None and SEQUENCE in shape[1:] and asked.dimensions[0]:
                array = array.take(range(length), axis=shape.index(SEQUENCE))
            whole[name] = array
        joined.append(whole)
    return joined
