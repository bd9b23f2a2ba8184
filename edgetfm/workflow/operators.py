"""The operators that a bundle needs, as reduced builds of onnxruntime want them listed."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetfm.bundle import Bundle, open_bundle
from edgetfm.graphs import read_graph
from edgetfm.runtime._ort import ort
from edgetfm.runtime.devices import device_named
from edgetfm.runtime.session import checked, in_utf8, load_error
from edgetfm.search.goal import AnyPath
from edgetfm.workflow.about import check_place, write_about

if TYPE_CHECKING:
    import onnx_ir as ir


def required_operators(path: AnyPath) -> str:
    """Of all variants of a bundle, a line `domain;opset;operator,operator` each domain and opset.

    Listed is what is written in the graphs, and what onnxruntime rewrites them into where this
    processor loads them at ORT_ENABLE_EXTENDED: short of the layouts that it likes on one alone,
    which its default level may ask for. An app's build of it takes the text by
    `--include_ops_by_config`:
    https://onnxruntime.ai/docs/reference/operators/reduced-operator-config-file.html.
    Raises BundleError for a graph that onnxruntime cannot load.
    """
    return _listed(open_bundle(path))


def _listed(bundle: Bundle) -> str:
    found: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    for component in bundle.manifest.components.values():
        for variant in component.variants.values():
            graph = bundle.path(variant.file)
            with tempfile.TemporaryDirectory(prefix="edgetfm-") as place:
                rewritten = _rewritten(graph, Path(place), bundle.manifest.session)
                for one in (graph, rewritten):
                    for domain, opset, operator in _operators(one):
                        found[domain, opset].add(operator)
    return "".join(
        f"{domain};{opset};{','.join(sorted(operators))}\n"
        for (domain, opset), operators in sorted(found.items())
    )


def write_operators(path: AnyPath, file: Path) -> None:
    """`required_operators` in a file. OutputError if it cannot be written, or is the bundle's."""
    bundle = open_bundle(path)
    check_place(file, bundle)
    write_about(bundle, file, _listed(bundle))


def _rewritten(graph: Path, folder: Path, settings: Mapping[str, Any]) -> Path:
    """The graph as onnxruntime runs it, its weights beside it."""
    made = folder / "model.onnx"
    options = ort().SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort().GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(made)
    entries = {
        **checked(settings).get("config_entries", {}),
        "session.optimized_model_external_initializers_file_name": "model.onnx_data",
    }
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    in_utf8(graph)
    try:
        ort().InferenceSession(
            graph,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(settings.get("disabled_optimizers", ())),
        )
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise load_error(error, graph, device_named("cpu")) from error
    return made


def _operators(path: Path) -> Iterator[tuple[str, int, str]]:
    """Domain, opset and operator of every node, also of branches and functions."""
    model = read_graph(path)
    holders: tuple[ir.Graph | ir.Function, ...] = (model.graph, *model.functions.values())
    for holder in holders:
        for node in holder.all_nodes():
            opset = holder.opset_imports.get(node.domain, 1)
            if (node.domain, node.op_type, node.overload) not in model.functions:
                yield node.domain or "ai.onnx", opset, node.op_type
