"""Weights wait on disk: memory holds one at a time however large the model is."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.serde import TensorProtoTensor

from edgetfm.spaces import SMALLEST
from edgetfm.spaces import space as space


def spooled(array: NDArray[Any]) -> NDArray[Any]:
    """The same array, on disk if it is large."""
    if array.nbytes < SMALLEST:
        return array
    mapped = space(array.shape, array.dtype)
    mapped[...] = array
    return mapped


def spool_weights(model: ir.Model) -> None:
    """Move what was parsed from a graph's file out of memory; no value changes.

    The parsed file is one block that the last of its tensors keeps alive, so the small ones are
    copied out of it.
    """
    for graph in model.graphs():
        for value in graph.initializers.values():
            if (tensor := value.const_value) is not None:
                value.const_value = _moved(tensor)
        for node in graph:
            for name, attribute in node.attributes.items():
                if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                    node.attributes[name] = ir.AttrTensor(name, _moved(attribute.as_tensor()))


def _moved(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    if not isinstance(tensor, TensorProtoTensor) or tensor.dtype == ir.DataType.STRING:
        return tensor
    array = spooled(tensor.numpy())
    array = array if isinstance(array, np.memmap) else np.array(array)
    return ir.Tensor(array, dtype=tensor.dtype, name=tensor.name)
