"""Safetensors files: found, opened by mapping, checked, and put into a module without copies."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from edgetfm.errors import InputError, SourceError, listed
from edgetfm.files import inside

Weights = dict[str, Tensor]

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint; a SourceError says what is there instead."""
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if (folder / INDEX).is_file():
        return _sharded(folder)
    pickles = sorted({p.name for pattern in _PICKLES for p in folder.glob(pattern)})
    if pickles:
        raise SourceError(
            f"{folder} holds only pickled weights ({', '.join(pickles)}), which edgetfm does not "
            "open because unpickling runs code: convert them with "
            "`AutoModel.from_pretrained(folder).save_pretrained(new_folder)`"
        )
    raise SourceError(f"{folder} has no weights: expected {SINGLE} or {INDEX}")


def _sharded(folder: Path) -> list[Path]:
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        names = sorted({str(name) for name in index["weight_map"].values()})
        paths = [inside(folder, name) for name in names]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise SourceError(f"{folder / INDEX} is malformed: {error}") from error
    except InputError as error:
        raise SourceError(f"{folder / INDEX}: {error}") from error
    missing = [p.name for p in paths if not p.is_file()]
    if missing or not paths:
        raise SourceError(f"{folder} lacks weights that {INDEX} names: {', '.join(missing)}")
    return paths


def open_weights(paths: Iterable[Path]) -> Weights:
    """The tensors by name, backed by the files: their bytes are read when touched."""
    weights: Weights = {}
    for path in paths:
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118  (not a mapping)
                    weights[name] = file.get_tensor(name)
        except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            raise SourceError(
                f"{path} is not a whole safetensors file ({error}): download or convert it again"
            ) from error
    return dict(sorted(weights.items()))


def check_finite(weights: Weights) -> None:
    """Raise a SourceError that lists the weights with NaN or infinite values."""
    bad = []
    for name, weight in weights.items():
        if weight.is_floating_point() and weight.numel():
            low, high = torch.aminmax(weight.float() if weight.itemsize < 2 else weight)
            if not (torch.isfinite(low) and torch.isfinite(high)):
                bad.append(name)
    if bad:
        raise SourceError(f"weights with NaN or infinite values: {_some(bad)}")


def check_fit(module: nn.Module, weights: Weights, elsewhere: str) -> list[str]:
    """Hold weights against a module's; the names that belong to other tasks' heads are returned.

    A SourceError lists everything that is missing, left over or of another shape.
    """
    wanted = module.state_dict()
    problems = [
        f"missing: {name} {list(w.shape)}" for name, w in wanted.items() if name not in weights
    ]
    unused = []
    for name, weight in weights.items():
        if name not in wanted:
            if re.search(elsewhere, name):
                unused.append(name)
            elif weight.dtype not in _FLOATS:
                problems.append(_not_floats(name, weight))
            else:
                problems.append(f"without a place: {name} {list(weight.shape)}")
        elif weight.shape != wanted[name].shape:
            problems.append(
                f"{name} has shape {list(weight.shape)}, the config says {list(wanted[name].shape)}"
            )
        elif weight.dtype not in _FLOATS:
            problems.append(_not_floats(name, weight))
    if problems:
        shown = problems[:40] + ([f"and {len(problems) - 40} more"] if len(problems) > 40 else [])
        raise SourceError(f"the weights do not fit the config and the task:\n{listed(shown)}")
    return unused


def _not_floats(name: str, weight: Tensor) -> str:
    known = ", ".join(_dtype(d) for d in _FLOATS)
    return f"{name} is {_dtype(weight.dtype)}, expected one of {known}"


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def empty(build: Callable[[], nn.Module]) -> nn.Module:
    """A module whose parameters have shapes but no memory; a SourceError if none can be so big."""
    try:
        with torch.device("meta"):
            return build()
    except RuntimeError as error:  # more elements than can be counted
        raise SourceError(f"the config describes a model that cannot be built: {error}") from error


def fill(module: nn.Module, weights: Weights) -> nn.Module:
    """Give an empty module its weights in float32, those that are uncopied; empties `weights`."""
    wanted = module.state_dict().keys()
    taken = {}
    for name in list(weights):
        weight = weights.pop(name)
        if name in wanted:
            taken[name] = weight.to(torch.float32)
    module.load_state_dict(taken, assign=True)
    return module.requires_grad_(False).eval()


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
