"""The example inputs of a user's module: as the user gives them, to arrays by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgetfm.errors import SourceError, in_short, listed
from edgetfm.runtime.cases import meaningless
from edgetfm.signature import DTYPES, Feeds, Signature
from edgetfm.sources._named import parameters_of
from edgetfm.users_code import import_function, names_function, users_code

_SIZES = (2, 7, 3, 5, 11)
"""Sizes of free axes where a signature is all there is: none is 1 and no two are equal."""


@dataclass(frozen=True)
class Examples:
    """Arrays by name, in the order of forward's parameters.

    signature: the user's own, if there is one. meaningless: whether they are noise, for want of
    the user's.
    """

    feeds: Feeds
    signature: Signature | None = None
    meaningless: bool = False


def read_examples(spec: str, module: nn.Module, returned: Any, inputs: str | None) -> Examples:
    """What the user says of the inputs: with the module, as its `signature`, or by `inputs`.

    inputs: module:function or a .npz file. Raises SourceError if nothing is said, or for what
    cannot be the inputs of the module.
    """
    said = returned if inputs is None else _read(inputs)
    with users_code(f"signature of {spec}"):
        own = getattr(module, "signature", None)
    signature = said if isinstance(said, Signature) else own if isinstance(own, Signature) else None
    given = None if isinstance(said, Signature) else said
    order = parameters_of(module, spec)
    if given is None and signature is None:
        raise SourceError(
            f"nothing says what {spec} takes ({', '.join(order)}): return (module, example "
            "inputs), or name a function that returns example inputs, or a .npz file with them, "
            "by --inputs"
        )
    feeds = None if given is None else _arrays(_by_name(given, order, spec), spec)
    if signature is None:
        assert feeds is not None
        return Examples(feeds)
    sizes = dict(zip(signature.axes, _SIZES, strict=False))
    noise = feeds is None
    feeds = meaningless(signature, sizes, 6) if feeds is None else signature.check(feeds)
    return Examples(feeds, signature, noise)


def _read(inputs: str) -> Any:
    if names_function(inputs):
        function = import_function(inputs)
        with users_code(inputs):
            return function()
    if Path(inputs).suffix != ".npz":
        raise SourceError(f"{inputs} holds no example inputs: give module:function or a .npz file")
    try:
        with np.load(inputs, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError) as error:
        raise SourceError(f"{inputs} cannot be read as a .npz file: {error}") from error


def _by_name(given: Any, order: list[str], spec: str) -> dict[str, Any]:
    """Example inputs by the names of forward's parameters, in their order."""
    if isinstance(given, Mapping):
        unknown = [str(name) for name in given if name not in order]
        if unknown:
            raise SourceError(
                f"the example inputs of {spec} have {', '.join(unknown)}; its forward takes "
                f"{', '.join(order) or 'nothing'}"
            )
        return {name: given[name] for name in order if name in given}
    values = list(given) if isinstance(given, (tuple, list)) else [given]
    if len(values) > len(order):
        raise SourceError(
            f"there are {len(values)} example inputs of {spec}, its forward takes {len(order)}: "
            f"{', '.join(order)}"
        )
    return dict(zip(order, values, strict=False))


def _arrays(given: Mapping[str, Any], spec: str) -> Feeds:
    """Arrays of dtypes that a graph has; floats as float32."""
    feeds: Feeds = {}
    problems = [] if given else [f"the example inputs of {spec} are empty"]
    for name, value in given.items():
        if not isinstance(value, (Tensor, np.ndarray)):
            problems.append(
                f"example input '{name}' is a {type(value).__name__}, expected a tensor or array: "
                "what is fixed goes into the module"
            )
            continue
        try:
            tensor = torch.as_tensor(value).detach().cpu()
            array = (tensor.float() if tensor.is_floating_point() else tensor).contiguous().numpy()
        except (RuntimeError, TypeError) as error:  # sparse, without memory, or of objects
            problems.append(f"example input '{name}' is no array of numbers: {in_short(error)}")
            continue
        if array.dtype.name not in DTYPES or array.dtype.kind == "c":
            problems.append(f"example input '{name}' is {array.dtype.name}")
        elif array.size == 0:
            problems.append(f"example input '{name}' is empty: {list(array.shape)}")
        else:
            feeds[name] = array
    if problems:
        raise SourceError(listed(problems))
    return feeds
