"""What `--target htp` adds to a bundle: the graph with fixed sizes, and its compiled form."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from edgetfm.errors import DeviceError, ParityError, listed
from edgetfm.graphs import read_graph, save_graph, write_graph
from edgetfm.ledger import Rung
from edgetfm.manifest import NPU
from edgetfm.proof import answers_of, device_rung
from edgetfm.runtime.devices import DEVICES, devices_named
from edgetfm.runtime.remote import environment
from edgetfm.runtime.remote.job import Job, Result, Stage
from edgetfm.runtime.remote.replay import fallen
from edgetfm.search.draft import Draft
from edgetfm.search.goal import Goal
from edgetfm.signature import Feeds, Signature, is_batch
from edgetfm.stages import MODEL

TARGET = "htp"
CACHE = "ep_cache_context"
"""Of an EPContext node: where its binary is."""

WITHIN_S = 300
"""How long each of the two runs in the simulator may take: one compiles, the other asks."""

STATIC, CONTEXT, BINARY = (f"{NPU}{name}" for name in ("model.onnx", "context.onnx", "context.bin"))


def add_npu_form(draft: Draft, goal: Goal, precision: str) -> None:
    """For the target htp: the variant with one row and fixed sizes, and what its compiler makes.

    The sizes are those of the longest case that the model was proven on, which is what it can
    take. The graph of these sizes answers as the variant does, or ParityError. The compiled form,
    of the architecture that the device `htp` is, ships only if the simulator runs it wholly, soon,
    and answers as the variant does on this machine; a note says what was left out, and why.
    """
    if TARGET not in goal.targets:
        return
    signature, path = draft.signatures.get(MODEL), draft.path(precision)
    if signature is None or signature.has_cache or not isinstance(path, Path):
        draft.notes.append("no form of fixed sizes for the NPU: the cache of a text grows with it")
        return
    case = _one_row(max(draft.evidence.cases, key=_largest), signature)
    _write_static(draft, path, signature, case)
    wanted = answers_of(path, [case], settings=draft.session)
    _prove_static(draft, precision, case, wanted)
    try:
        devices_named(TARGET)
        with tempfile.TemporaryDirectory(prefix="edgetfm-") as place:
            draft.progress("compiling for the NPU", 0, 2)
            _compile(draft, signature, case, Path(place))
            draft.progress("asking the NPU's simulator", 1, 2)
            rung = _prove(draft, precision, signature, case, wanted, Path(place))
            draft.progress("asking the NPU's simulator", 2, 2)
            if not rung.passed:
                raise DeviceError(f"it answers otherwise: {'; '.join(rung.missed)}")
            draft.ledger.rungs.append(rung)
            for name in (CONTEXT, BINARY):
                draft.writer.copy(Path(place) / Path(name).name, name)
    except DeviceError as error:
        draft.notes.append(f"no compiled form for the NPU: {error}")


def _largest(case: Feeds) -> int:
    """The numbers of one row."""
    return max(array.size // max(1, len(array)) for array in case.values() if array.ndim)


def _one_row(case: Feeds, signature: Signature) -> Feeds:
    batched = {t.name for t in signature.inputs if t.shape and is_batch(t.shape[0])}
    return {name: a[:1] if name in batched else a for name, a in case.items()}


def _write_static(draft: Draft, path: Path, signature: Signature, case: Feeds) -> None:
    """The graph with the sizes of the case in the place of its free axes."""
    sizes = {
        axis: size
        for spec in signature.inputs
        for axis, size in zip(spec.shape, case[spec.name].shape, strict=True)
        if isinstance(axis, str)
    }
    model = read_graph(path)
    for value in (*model.graph.inputs, *model.graph.outputs):
        if value.shape is not None:
            known = (axis if isinstance(axis, int) else axis.value for axis in value.shape)
            value.shape = ir.Shape([sizes.get(str(axis), axis) for axis in known])
    write_graph(model, draft.writer, STATIC)
    said = ", ".join(f"{axis} {size}" for axis, size in sizes.items()) or "as it was"
    draft.notes.append(f"{STATIC} is the variant for the NPU, its sizes fixed: {said}")


def _prove_static(draft: Draft, precision: str, case: Feeds, wanted: Sequence[Feeds]) -> None:
    """The graph of fixed sizes beside the variant, on this machine; ParityError if they differ."""
    answers = answers_of(draft.writer.path(STATIC), [case], settings=draft.session)
    compared = draft.subject.compare(answers, wanted, [case])
    name = f"{precision} of fixed sizes"
    rung = device_rung(precision, name, precision, compared, {}, draft.subject.oracle)
    draft.ledger.rungs.append(rung)
    if not rung.passed:
        raise ParityError(f"{STATIC} answers otherwise than the variant:\n{listed(rung.missed)}")


def _asked(graph: Path, signature: Signature, case: Feeds, place: Path, **options: Any) -> Result:
    """What the simulator answers in a folder; DeviceError for nodes that it left to the CPU."""
    device, names = DEVICES[TARGET], [output.name for output in signature.outputs]
    stage = Stage(graph, {name: name for name in case}, {name: name for name in names})
    provider = {"name": device.provider, "options": dict(device.options), "library": device.module}
    Job((stage,), [case], names, provider, **options).write(place)
    environment.answer("qnn", WITHIN_S)(place)
    result = Result.read(place, TARGET)
    if result.fallen_back:
        raise DeviceError(fallen(TARGET, result))
    return result


def _compile(draft: Draft, signature: Signature, case: Feeds, place: Path) -> None:
    """The context and its binary, in a folder, under the names that they will have."""
    work = place / "compiling"
    work.mkdir()
    _asked(draft.writer.path(STATIC), signature, case, work, context=True)
    binaries, made = list(work.glob("context-*.bin")), list(work.glob("context-*.onnx"))
    if len(binaries) != 1 or len(made) != 1:
        raise DeviceError(f"its compiler left {len(made)} graphs and {len(binaries)} binaries")
    model = read_graph(made[0])
    for node in model.graph:
        if CACHE in node.attributes:
            node.attributes.add(ir.AttrString(CACHE, Path(BINARY).name))
    save_graph(model, place / Path(CONTEXT).name)
    binaries[0].rename(place / Path(BINARY).name)


def _prove(
    draft: Draft,
    precision: str,
    signature: Signature,
    case: Feeds,
    wanted: Sequence[Feeds],
    place: Path,
) -> Rung:
    """The compiled form asked, beside the variant's answers on this machine."""
    work = place / "asking"
    work.mkdir()
    answers = _asked(place / Path(CONTEXT).name, signature, case, work).answers
    subject, name = draft.subject, f"{precision} compiled for {TARGET}"
    compared = subject.compare(answers, wanted, [case])
    return device_rung(precision, name, "the exporting CPU", compared, {}, subject.oracle)
