"""ONNX files that were not exported here: read as a model that can be quantized and proven.

The oracle is the file itself, run by onnxruntime as it was written. No PyTorch is needed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx_ir as ir

from edgetfm import assets
from edgetfm.errors import InputError, OutputError, SourceError, listed
from edgetfm.files import sha256
from edgetfm.foreign.files import graph_file, home_of
from edgetfm.graphs import external_files, read_graph, save_graph, write_graph
from edgetfm.image_processors import read_image_processor
from edgetfm.manifest import ONNX_FILE, Variant, file_of
from edgetfm.proof import Run, Subject, session_run
from edgetfm.quantize.normalize import check_float, name_nodes, normalize
from edgetfm.runtime.memory import return_freed
from edgetfm.runtime.shapes import TEXT_INPUTS, read_signature
from edgetfm.search.draft import Draft
from edgetfm.search.float_graph import ask, row_by_row
from edgetfm.signature import Feeds, Signature
from edgetfm.stages import MODEL
from edgetfm.task import OTHER
from edgetfm.tasks import TASKS, task_named


@dataclass(frozen=True)
class Foreign:
    """One ONNX file. Nothing heavy is kept: `reference()` loads it anew.

    family: the model type that a config beside it names, or `onnx`. The rest is as in
    edgetfm.sources.Source.
    """

    path: Path
    signature: Signature
    task: str
    family: str
    provenance: dict[str, Any]
    assets: dict[str, bytes] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    licence: str | None = None
    notes: tuple[str, ...] = ()
    route: str = "onnx"
    generation: dict[str, Any] = field(default_factory=dict)

    @property
    def signatures(self) -> dict[str, Signature]:
        """That of each graph: there is one."""
        return {MODEL: self.signature}

    def reference(self) -> Run:
        """The file as it is, without any of onnxruntime's rewrites."""
        return _as_written(self.path)

    @property
    def subject(self) -> Subject:
        """What its variants are compared by."""
        task = TASKS[self.task].on(self.signature, self.preprocessing)
        return Subject(task, self.signature, ONNX_FILE)


def open_foreign(path: str | os.PathLike[str], *, task: str | None = None) -> Foreign:
    """The graph in an ONNX file, or in a folder with onnx/model.onnx, model.onnx or a single one.

    task: what it does, if the config beside it does not say. A tokenizer or an image processor
    beside it, or above a folder `onnx`, makes its inputs. Raises InputError with all that keeps
    the graph from being quantized, SourceError for files beside it that cannot be used.
    """
    file = graph_file(Path(path))
    model = read_graph(file)
    try:
        check_float(model)
        _refuse_empty(model)
        signature = read_signature(_inputs_only(model), _as_written(file))
    except InputError as error:
        raise InputError(f"{file}: {error}") from error
    finally:
        return_freed()
    home = home_of(file)
    config = assets.read_json(home / "config.json")
    prepared = _prepared(home, signature, config, model)
    name = _task(config, signature, task, prepared.preprocessing)
    kept = {"config.json": (home / "config.json").read_bytes()} if config else {}
    files = [file, *external_files(model, file.parent)]
    return Foreign(
        path=file,
        signature=signature,
        task=name,
        family=str(config.get("model_type") or "onnx"),
        provenance={
            "kind": "onnx",
            "name": Path(path).name or Path(path).resolve().name,
            "sha256": {f.name: sha256(f) for f in files},
        },
        assets=kept | prepared.assets,
        preprocessing=prepared.preprocessing,
        labels=_labels(config) if name.endswith("-classification") else (),
        licence=assets.read_licence(home),
        notes=(*_left_alone(file, Path(path)), *prepared.notes),
    )


def _left_alone(file: Path, given: Path) -> list[str]:
    """Which graphs of a folder were not taken."""
    others = [f.name for f in sorted(file.parent.glob("*.onnx")) if f != file]
    if not given.is_dir() or not others:
        return []
    return [f"{file.name} was taken of the graphs in this folder, not {', '.join(others)}"]


def _as_written(path: Path) -> Run:
    """The graph in a file as a function. Namesakes, which onnxruntime refuses, get other names."""
    model = read_graph(path)
    names = [node.name for node in model.graph if node.name]
    if len(set(names)) == len(names):
        return session_run(path, optimize=False)
    with tempfile.TemporaryDirectory(prefix="edgetfm-") as folder:
        renamed = Path(folder) / path.name
        save_graph(name_nodes(model)[0], renamed)
        return session_run(renamed, optimize=False)


def _refuse_empty(model: ir.Model) -> None:
    """Raise InputError for matrix products with weights of size zero."""
    empty = [
        f"the weight '{value.name}' of {node.op_type} '{node.name}' has no values"
        for node in model.graph.all_nodes()
        for value in node.inputs
        if node.op_type in ("MatMul", "Gemm", "Conv")
        and value is not None
        and value.const_value is not None
        and 0 in value.const_value.shape.numpy()
    ]
    if empty:
        raise InputError(f"this graph cannot be used:\n{listed(empty)}")


def _inputs_only(model: ir.Model) -> ir.Model:
    """The graph without the weights that old files list as inputs."""
    weights = set(model.graph.initializers)
    for value in [v for v in model.graph.inputs if v.name in weights]:
        model.graph.inputs.remove(value)
    return model


# --- what stands beside the graph ---------------------------------------------------------------


def _prepared(
    home: Path, signature: Signature, config: Mapping[str, Any], model: ir.Model
) -> assets.Prepared:
    """How its inputs are made, as far as the files beside it say; else nothing."""
    inputs = signature.inputs
    tokenizers = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")
    if {t.name for t in inputs} <= TEXT_INPUTS and any((home / n).is_file() for n in tokenizers):
        return assets.read_tokenizer(
            home, longest=_longest(config, signature), vocabulary=_vocabulary(config, model)
        )
    described = (home / "preprocessor_config.json").is_file()
    if described and len(inputs) == 1 and len(inputs[0].shape) == 4:
        _, channels, *size = inputs[0].shape
        known = config.get("image_size")
        given = [known, known] if isinstance(known, int) else known
        if not all(isinstance(a, int) for a in size):
            size = given if isinstance(given, list) else [224, 224]
        shape = SimpleNamespace(
            image_size=size, channels=channels if isinstance(channels, int) else 3
        )
        return read_image_processor(home, shape)
    return assets.Prepared()


def _longest(config: Mapping[str, Any], signature: Signature) -> int:
    """The most tokens the graph takes, by its own axis or its config."""
    axis = signature.inputs[0].shape[1]
    if isinstance(axis, int):
        return axis
    positions = _count(config.get("max_position_embeddings"))
    if positions is None or positions < 1:
        return 512
    if config.get("model_type") not in _OFFSET:
        return positions
    # These count positions from behind the padding's.
    given = config.get("pad_token_id") or 0
    pads = _count(given)
    if pads is None or not 0 <= pads < positions - 1:
        raise SourceError(
            f"config.json: pad_token_id {given!r:.80} leaves no place for a token among "
            f"{positions} positions: it is a number, and smaller"
        )
    return positions - pads - 1


def _count(value: object) -> int | None:
    """A number from a config, None for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


_OFFSET = ("camembert", "mpnet", "roberta", "xlm-roberta", "longformer")


def _vocabulary(config: Mapping[str, Any], model: ir.Model) -> int:
    """The rows of the table that token ids are looked up in."""
    ids = next((v for v in model.graph.inputs if v.name == "input_ids"), None)
    for user in ids.consumers() if ids is not None else ():
        table = user.inputs[0] if user.op_type == "Gather" else None
        if table is not None and table.const_value is not None:
            return int(table.const_value.shape.numpy()[0])
    size = config.get("vocab_size")
    return size if isinstance(size, int) else 1 << 31


def _task(
    config: Mapping[str, Any], signature: Signature, wanted: str | None, made: Mapping[str, Any]
) -> str:
    """The task asked for, else the one that config and outputs agree on, else `other`."""
    if wanted is not None:
        task = task_named(wanted)
        if problems := task.misfits(signature):
            raise InputError(
                f"the graph does not do {task.name}:\n{listed(problems)}\n"
                f"leave --task out, or give '{OTHER}'"
            )
        return task.name
    named = assets.HEADS.get(assets.read_head(config), "")
    likely = [named] if named else []
    likely += [n for n in ("question-answering", "feature-extraction") if "tokenizer" in made]
    likely += ["image-feature-extraction"] if "image" in made else []
    fitting = (n for n in likely if not TASKS[n].misfits(signature))
    if problems := TASKS[OTHER].misfits(signature):
        raise InputError(f"the graph cannot be judged: {listed(problems)}")
    return next(fitting, OTHER)


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    names = config.get("id2label")
    if not isinstance(names, dict):
        return ()
    return tuple(str(names.get(str(i), f"LABEL_{i}")) for i in range(len(names)))


# --- into a bundle ------------------------------------------------------------------------------


def check_output(opened: Foreign, output: str | os.PathLike[str] | None) -> Path:
    """Where the bundle goes; an error without, or if it would replace what it is made of."""
    if output is None:
        raise InputError(f"{opened.path} is no bundle: say with --output where to write one")
    if opened.path.resolve().is_relative_to(Path(output).resolve()):
        raise OutputError(f"{output} holds {opened.path}, which it would replace")
    return Path(output)


def write_foreign_graph(opened: Foreign, draft: Draft) -> None:
    """The file's answers, and its graph in the form that passes know; then what can be promised.

    Raises InputError where the file does not run at a size that it calls free.
    """
    evidence = draft.evidence
    run = opened.reference()
    draft.truth = ask(_explained(run, opened), evidence.cases, ONNX_FILE, draft.progress)
    draft.judged = ask(_explained(run, opened), evidence.judged, ONNX_FILE, draft.progress)
    draft.subject = row_by_row(draft, run, "the file")
    del run
    return_freed()
    draft.progress("reading the graph", 0, 0)
    graph = normalize(_inputs_only(read_graph(opened.path)))
    for values, specs in (
        (graph.graph.inputs, opened.signature.inputs),
        (graph.graph.outputs, opened.signature.outputs),
    ):
        for value, spec in zip(values, specs, strict=True):
            value.shape = ir.Shape(list(spec.shape))
    file, data = write_graph(graph, draft.writer, file_of(MODEL))
    draft.variants["fp32"] = {MODEL: Variant(file, data)}


def _explained(run: Run, opened: Foreign) -> Run:
    def checked(feeds: Feeds) -> Feeds:
        try:
            return run(feeds)
        except InputError as error:
            sizes = ", ".join(f"{n} {list(a.shape)}" for n, a in feeds.items())
            raise SourceError(
                f"{opened.path} does not run on {sizes}, although its inputs are "
                f"{', '.join(map(str, opened.signature.inputs))}: {error}\n"
                "it was traced with other sizes: export it again with axes that are free, or fixed"
            ) from error

    return checked
