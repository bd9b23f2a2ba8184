"""The first half of an export: PyTorch's answers, the fp32 graph, and the proof that they agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from edgetfm.beside import Beside
from edgetfm.budget import FLOAT_BOUND, Budget
from edgetfm.errors import InputError, ParityError, SourceError, listed
from edgetfm.graphs import write_graph
from edgetfm.invariants import compare_alone, float_rungs
from edgetfm.ledger import rung
from edgetfm.manifest import Variant, file_of
from edgetfm.progress import Progress, quiet
from edgetfm.proof import SMALL, Run, Subject, on_disk
from edgetfm.runtime.machine import machine
from edgetfm.runtime.memory import return_freed
from edgetfm.search.draft import Draft
from edgetfm.search.parts import case_of_parts
from edgetfm.signature import Feeds, is_batch
from edgetfm.stages import MODEL, parts

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import nn

    from edgetfm.export.streamed import Shallow
    from edgetfm.models._family import Stage
    from edgetfm.sources import Source


def make_float_graph(opened: Source, draft: Draft) -> None:
    """Write the fp32 graph and prove it; however that ends, PyTorch is asked nothing more."""
    try:
        _write_float_graph(opened, draft)
        prove_float(draft, opened)
    except BaseException as error:  # an interruption too: the thread would go on
        if draft.asked is not None:
            draft.asked.stop(error)
        raise


def _write_float_graph(opened: Source, draft: Draft) -> None:
    """PyTorch's answers, then our module's, then the graph: one copy of the weights at a time.

    Where it pays (`_asks_beside`), PyTorch's copy stays, beside the one that is written and then
    the two sessions that it is proven in. What the adapter exports is PyTorch's own module: there
    is nothing of ours to compare with it.
    """
    from edgetfm.export import discard
    from edgetfm.sources import eager

    evidence, subject = draft.evidence, draft.subject
    reference = opened.reference()
    draft.truth = ask(reference, evidence.cases, "PyTorch, shapes", draft.progress)
    texts = None
    if _asks_beside(opened):
        texts = partial(ask, reference, evidence.judged, "PyTorch, texts", quiet)
    elif not subject.task.seq2seq:  # whose texts are written first, by the graph
        draft.judged = ask(reference, evidence.judged, "PyTorch, texts", draft.progress)
    if opened.route in ("adapter", "module"):
        who = "transformers" if opened.route == "adapter" else "the module"
        draft.subject = row_by_row(draft, reference, who)
    del reference
    return_freed()
    module = opened.module()
    signature = subject.signature
    if opened.route == "adapter":
        from edgetfm.export.adapter import adapt
        from edgetfm.quantize.normalize import normalize

        draft.progress("exporting the graph", 0, 0)
        graph = adapt(module, signature.inputs, signature.outputs, progress=draft.progress)
        _write(normalize(graph), MODEL, draft)
    elif opened.route == "module":
        from edgetfm.export.users_module import export_users_module
        from edgetfm.quantize.normalize import normalize

        draft.progress("exporting the graph", 0, 0)
        graph = export_users_module(module, signature, evidence.cases, progress=draft.progress)
        _write(normalize(graph), MODEL, draft)
    else:
        ours = ask(eager(module), evidence.cases, "the module, shapes", draft.progress)
        comparison = subject.compare(ours, draft.truth, evidence.cases)
        draft.ledger.rungs.append(
            rung(f"{opened.family.name} module", "PyTorch", comparison, bound=FLOAT_BOUND)
        )
        if opened.streams:
            discard(module)
        for stage in opened.stages:
            draft.progress("exporting the graph", 0, 0)
            graph = _traced(opened, module, stage, draft.progress)
            if texts is not None:
                draft.asked = _begin(texts)
                texts = None
            _write(graph, stage.name, draft)
            del graph
    discard(module)
    return_freed()


BESIDE = 1 << 28
"""Bytes of float32 weights from which it pays to ask PyTorch while the graph is written and proven;
beyond SMALL its weights and those of a session take too much memory together."""


def _asks_beside(opened: Source) -> bool:
    """Whether PyTorch's answers to the texts may wait until the graph is traced.

    Tracing changes what calling any module means, in all threads.
    """
    if not opened.streams:
        return False
    _, weights = opened.streamed()
    size = sum(4 * weight.shape.numel() for weight in weights.values())
    return BESIDE <= size <= SMALL


def _begin(work: Callable[[], list[Feeds]]) -> Beside[list[Feeds]]:
    """Do it in a thread of its own, PyTorch on one core."""
    import torch

    def alone() -> list[Feeds]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return work()
        finally:
            torch.set_num_threads(threads)

    return Beside(alone)


def _write(graph: ir.Model, component: str, draft: Draft) -> None:
    file, data = write_graph(graph, draft.writer, file_of(component))
    draft.variants.setdefault("fp32", {})[component] = Variant(file, data)


def _traced(opened: Source, module: nn.Module, stage: Stage, progress: Progress) -> ir.Model:
    """One graph of a native model; of one that streams, weights are read when they are written."""
    from edgetfm.export import to_onnx
    from edgetfm.export.streamed import to_onnx_streamed

    config, task = opened.config, opened.task
    specs = stage.inputs(config, task), stage.outputs(config, task)
    if not opened.streams:
        return to_onnx(stage.part(module), *specs, progress=progress)
    skeleton, weights = opened.streamed()
    shallow = _shallow(opened, stage, skeleton)
    part = stage.part(skeleton)
    return to_onnx_streamed(part, weights, *specs, shallow=shallow, progress=progress)


def _shallow(opened: Source, stage: Stage, skeleton: nn.Module) -> Shallow | None:
    """What is traced for a decoder of many equal layers; None for others."""
    from edgetfm.export.repeated import FEW, LAYERS, are_equal
    from edgetfm.export.streamed import Shallow

    layers = getattr(skeleton, LAYERS, ())
    if len(layers) <= FEW or not are_equal(layers):
        return None
    module, config = opened.of_depth(FEW)
    if not are_equal([*layers, *getattr(module, LAYERS)]):
        return None
    specs = stage.inputs(config, opened.task), stage.outputs(config, opened.task)
    return Shallow(stage.part(module), *specs, depth=len(layers))


def prove_float(draft: Draft, source: Source | None = None) -> None:
    """Hold the fp32 graph against its oracle; ParityError if it answers differently.

    With `source` the error names the first node that does.
    """
    draft.progress(f"comparing the fp32 graph with {draft.subject.oracle}", 0, 0)
    draft.ledger.machine = machine()
    cases, truth = draft.evidence.cases, draft.truth
    try:
        draft.ledger.rungs += float_rungs(draft.subject, draft.path("fp32"), cases, truth, {})
    except (InputError, ParityError) as error:
        if source is None or source.route != "adapter":
            raise
        raise SourceError(
            f"transformers exports {source.family.name} with sizes fixed inside: {error}"
        ) from error
    if draft.asked is not None:
        draft.judged, draft.asked = draft.asked.result(), None
    if not draft.ledger.passed:
        where = f"\n{_blame(source, draft)}" if source else ""
        raise ParityError(
            f"the exported graph answers differently:\n{listed(draft.ledger.failures)}{where}"
        )


def _blame(opened: Source, draft: Draft) -> str:
    """A sentence that names the first node of the graph that differs from its module."""
    from edgetfm.export.divergence import first_module_divergence

    graph = draft.path("fp32")
    feeds, module = case_of_parts(graph, draft.evidence.cases[-1]), opened.module()
    stages = {stage.name: stage for stage in opened.stages}
    for name, path in parts(graph).items():
        part = stages[name].part(module)
        if found := first_module_divergence(part, path, feeds[name], limit=1e-4):
            return str(found)
    return "no single node of the graph differs from our module by 1e-4"


def ask(run: Run, feeds: Sequence[Feeds], what: str, progress: Progress) -> list[Feeds]:
    """The answers to all feeds, with progress."""
    answers = []
    for done, inputs in enumerate(feeds):
        progress(f"asking {what}", done, len(feeds))
        answers.append(on_disk(run(inputs)))
    return answers


def row_by_row(draft: Draft, run: Run, who: str) -> Subject:
    """The subject, with what the oracle itself keeps to: rows alone answer as in a padded batch.

    Where it does not, nothing made of it can: a note says so, and it is not asked of the graphs.
    """
    subject = draft.subject
    pairs = [(c, t) for c, t in zip(draft.evidence.cases, draft.truth, strict=True) if _rows(c) > 1]
    if not pairs or not all(t.shape and is_batch(t.shape[0]) for t in subject.signature.inputs):
        return replace(subject, row_by_row=False)
    try:
        alone = compare_alone(subject, run, [c for c, _ in pairs], [t for _, t in pairs])
    except (InputError, ParityError, IndexError, ValueError):  # takes no other size, has no rows
        return replace(subject, row_by_row=False)
    budget = Budget.parse(FLOAT_BOUND)
    missed = [f"{n}: {m}" for n, found in alone.measures().items() for m in budget.misses(found)]
    if missed:
        draft.notes.append(
            f"{who} answers a row otherwise alone than in a padded batch, and so does what is "
            f"made of it ({', '.join(missed)})"
        )
    return replace(subject, row_by_row=not missed)


def _rows(feeds: Feeds) -> int:
    return min((len(array) if array.ndim else 0 for array in feeds.values()), default=0)
