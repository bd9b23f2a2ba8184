"""What an exporter leaves behind, taken out: stack traces, documentation, odd shapes, versions."""

from __future__ import annotations

import onnx_ir as ir


def run(model: ir.Model) -> tuple[ir.Model, bool]:
    """Keep what a runtime needs; the same source then gives the same bytes on every machine."""
    graph = model.graph
    model.producer_name, model.producer_version = "edgetfm", None
    model.doc_string, model.domain, model.model_version = None, None, None
    model.metadata_props.clear()
    graph.name, graph.doc_string = "model", None
    graph.metadata_props.clear()
    for value in (*graph.inputs, *graph.initializers.values()):
        _strip_value(value)
    for node in graph:
        node.doc_string = None
        node.metadata_props.clear()
        for value in node.outputs:
            _strip_value(value)
    return model, True


def _strip_value(value: ir.Value) -> None:
    value.doc_string = None
    value.metadata_props.clear()
    if value.shape is not None:
        value.shape = ir.Shape([_plain(size) for size in value.shape])


def _plain(size: int | ir.SymbolicDim) -> int | str | None:
    """A number or a name; an expression ('Min(512, sequence)') is for torch only."""
    if isinstance(size, int):
        return size
    return size.value if size.value is not None and size.value.isidentifier() else None
