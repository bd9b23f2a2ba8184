"""ONNX graphs on disk: read without loading their weights, written one tensor at a time."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from edgetfm.bundle import BundleWriter
from edgetfm.errors import InputError, listed
from edgetfm.files import NewFile, inside
from edgetfm.shared_weights import share_weights

EXTERNAL_OVER = 128 << 20
"""Bytes of weights above which they go to a file of their own: a protobuf holds at most 2 GB,
and a smaller file is easier to move as one."""

INLINE_UNDER = 1024
"""Bytes of a tensor that stays in the graph all the same: shapes and scalars are read early."""

_PAGE, _LINE = 4096, 64
"""Large tensors start at a page, so that a runtime can map them; small ones at a cache line."""


def read_graph(path: Path) -> ir.Model:
    """The graph in a file; its external weights stay on disk until they are used.

    Raises InputError if it is not ONNX, or if external weights are missing or lie outside the
    file's folder.
    """
    if not path.is_file():
        raise InputError(f"no graph at {path}")
    try:
        model = ir.load(path)
    except Exception as error:  # protobuf, serde and version errors have no common parent
        raise InputError(f"{path} is not an ONNX graph: {error}") from error
    if not model.graph.outputs:
        raise InputError(f"{path} is not an ONNX graph: it gives nothing")
    problems = []
    for tensor in _external(model):
        try:
            file = inside(path.parent, str(tensor.location))
        except InputError as error:
            problems.append(f"{tensor.name}: {error}")
            continue
        end = (tensor.offset or 0) + (tensor.length or 0)
        if not file.is_file():
            problems.append(f"{tensor.name}: {tensor.location} is missing")
        elif file.stat().st_size < end:
            problems.append(f"{tensor.name}: {tensor.location} ends before byte {end}")
    if problems:
        shown = problems[:20] + ([f"and {len(problems) - 20} more"] if len(problems) > 20 else [])
        raise InputError(f"{path} has unusable external weights:\n{listed(shown)}")
    return model


def _weights(model: ir.Model) -> list[ir.Value]:
    """Those of the graphs inside nodes, too."""
    values = (value for graph in model.graphs() for value in graph.initializers.values())
    return [value for value in values if value.const_value is not None]


def _external(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                yield value.const_value
        for node in graph:
            for attribute in node.attributes.values():
                tensors: tuple[ir.TensorProtocol, ...] = ()
                if attribute.type == ir.AttributeType.TENSOR:
                    tensors = (attribute.value,)
                elif attribute.type == ir.AttributeType.TENSORS:
                    tensors = tuple(attribute.value)
                yield from (t for t in tensors if isinstance(t, ir.ExternalTensor))


def external_files(model: ir.Model, folder: Path) -> list[Path]:
    """The files in `folder` that hold weights of a graph, in order of their names."""
    return sorted({inside(folder, str(tensor.location)) for tensor in _external(model)})


class _Place(Protocol):
    """Where files are made: a bundle being written, or a folder."""

    def create(self, relative: str) -> NewFile: ...

    def add(self, relative: str, file: NewFile) -> None: ...


class _Folder:
    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, relative: str) -> NewFile:
        return NewFile(self.root / relative, stays=False)

    def add(self, relative: str, file: NewFile) -> None: ...


def write_graph(
    model: ir.Model,
    writer: BundleWriter | _Place,
    relative: str,
    *,
    external_over: int | None = None,
) -> tuple[str, str | None]:
    """Write a graph as the file `relative` of a bundle, and its weights beside it if they are many.

    external_over: how many bytes that is; None is EXTERNAL_OVER. Returns the file and the file of
    the weights, or None if they are inside. The bytes depend on the graph alone, and no more than
    one tensor is in memory at a time.
    """
    weights = _weights(model)
    limit = EXTERNAL_OVER if external_over is None else external_over
    outside = sum(v.const_value.nbytes for v in weights if v.const_value) > limit
    data = f"{relative}_data" if outside else None
    before = [(v, v.const_value) for v in weights]
    try:
        # A graph that was read from elsewhere must not go on pointing at its old weights.
        _move_in([v for v in weights if v.const_value and not _goes_out(v.const_value, outside)])
        if data:
            _move_out(weights, writer, data)
        _write(writer, relative, _serialize(model))
    finally:
        for value, tensor in before:
            value.const_value = tensor
    return relative, data


def _goes_out(tensor: ir.TensorProtocol, outside: bool) -> bool:
    return outside and tensor.nbytes >= INLINE_UNDER


def _move_in(weights: list[ir.Value]) -> None:
    for value in weights:
        if isinstance(tensor := value.const_value, ir.ExternalTensor):
            value.const_value = ir.Tensor(tensor.numpy(), dtype=tensor.dtype, name=tensor.name)


def save_graph(model: ir.Model, path: Path, *, external_over: int | None = None) -> None:
    """Write a graph to a path outside of any bundle, in the same form; not to stay there for long.

    When this returns, others can read it, but it need not be on the disk.
    """
    write_graph(model, _Folder(path.parent), path.name, external_over=external_over)


def refer_graph(model: ir.Model, path: Path) -> tuple[Path, int] | None:
    """Write a graph whose large weights stay in the files that they lie in.

    Returns the folder of those files, for `make_session(path, weights_in=...)`, and the bytes of
    the weights. None, and nothing written, where one is in memory, or they lie in several folders.
    """
    weights = _weights(model)
    before = [(v, v.const_value) for v in weights]
    large = [t for _, t in before if t is not None and t.nbytes >= INLINE_UNDER]
    folders = {Path(t.base_dir) if isinstance(t, ir.ExternalTensor) else None for t in large}
    folder = next(iter(folders), None)
    if folder is None or len(folders) > 1:
        return None
    try:
        _move_in([v for v in weights if v.const_value and v.const_value.nbytes < INLINE_UNDER])
        _write(_Folder(path.parent), path.name, _serialize(model))
    finally:
        for value, tensor in before:
            value.const_value = tensor
    return folder, sum(tensor.nbytes for tensor in large)


def _move_out(weights: list[ir.Value], writer: BundleWriter | _Place, data: str) -> None:
    offsets: dict[Hashable, int] = {}
    with writer.create(data) as file:
        for value in weights:
            tensor = value.const_value
            if tensor is None or not _goes_out(tensor, outside=True):
                continue
            source = _source(tensor)
            if source not in offsets:
                file.pad_to(_PAGE if tensor.nbytes >= 1 << 20 else _LINE)
                offsets[source] = file.bytes
                file.write(_bytes_of(tensor))
            value.const_value = ir.ExternalTensor(
                Path(data).name,
                offsets[source],
                tensor.nbytes,
                tensor.dtype,
                shape=tensor.shape,  # type: ignore[arg-type]
                name=value.name or "",
            )
    writer.add(data, file)


def _source(tensor: ir.TensorProtocol) -> Hashable:
    """What two tensors have in common whose bytes are the same ones of a file."""
    if isinstance(tensor, ir.ExternalTensor):
        return tensor.path, tensor.offset, tensor.nbytes
    return id(tensor)


def _bytes_of(tensor: ir.TensorProtocol) -> bytes | memoryview:
    """What a file holds of a tensor; without a copy of it where its array is just that."""
    array = np.asarray(tensor.numpy())
    same = array.nbytes == tensor.nbytes and array.flags.c_contiguous and array.ndim
    if same and sys.byteorder == "little" and array.dtype.kind in "fiu":
        return array.reshape(-1).view(np.uint8).data
    return bytes(tensor.tobytes())


def infer_shapes(model: ir.Model) -> ir.Model:
    """The graph with the types and shapes of the values in between, which files leave out."""
    inferred: ir.Model = ShapeInferencePass()(model).model
    return inferred


def _serialize(model: ir.Model) -> bytes:
    """The bytes of a graph, without the shapes in between: a runtime infers what it needs.

    With them onnxruntime recognises SkipLayerNormalization in a quantized encoder, and that
    kernel made int8 25 % slower on an x86 CPU with VNNI (fp32: 11 %).
    """
    proto: onnx.ModelProto = ir.to_proto(model)
    del proto.graph.value_info[:]
    share_weights(proto.graph)
    return bytes(proto.SerializeToString(deterministic=True))


@contextmanager
def written_beside(model: onnx.ModelProto, graph: Path, what: str) -> Iterator[Path]:
    """A changed form of the graph in a file, beside it for a moment: it reads the same weights."""
    beside = graph.with_name(f"{what}-{graph.name}")
    try:
        beside.write_bytes(model.SerializeToString())
        del model
        yield beside
    finally:
        beside.unlink(missing_ok=True)


def _write(writer: BundleWriter | _Place, relative: str, data: bytes) -> None:
    with writer.create(relative) as file:
        file.write(data)
    writer.add(relative, file)
