"""The folder that training leaves: weights, config, how inputs are made, metrics, samples."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetfm.errors import OutputError
from edgetfm.files import NewFile
from edgetfm.folders import NewFolder, finish_interrupted_swap

if TYPE_CHECKING:
    import torch

    from edgetfm.models._family import Family

SCHEMA = 1


def check_output(output: Path, *, force: bool, resume: bool = False) -> None:
    """Raise an OutputError if a checkpoint cannot go to `output`.

    One of ours is replaced only with `force` or gone on with by `resume`, and any other folder
    that is not empty never.
    """
    try:
        finish_interrupted_swap(output)
        if output.is_symlink() or (output.exists() and not output.is_dir()):
            raise OutputError(f"{output} exists and is not a folder: it is left alone")
        if not output.exists():
            _check_parent(output)
        if not output.exists() or not any(output.iterdir()):
            return
    except (OSError, ValueError) as error:  # a name that is too long, or holds a zero byte
        raise OutputError(f"cannot write to {output!s}: {error}") from error
    if not _is_checkpoint(output):
        raise OutputError(
            f"{output} holds files but is not a checkpoint: it is left alone, choose another output"
        )
    if not force and not resume:
        raise OutputError(
            f"{output} exists: choose another output, go on with it with --resume if it was cut "
            "off, or replace it with --force"
        )


def _check_parent(output: Path) -> None:
    """OutputError if no folder can be made there: better said before an hour of training."""
    place = next(p for p in output.absolute().parents if p.exists())
    if not place.is_dir():
        raise OutputError(f"cannot write to {output}: {place} is not a folder")
    with tempfile.TemporaryDirectory(prefix=".edgetfm-", dir=place):
        pass


def _is_checkpoint(folder: Path) -> bool:
    try:
        return "edgetfm" in json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def write_checkpoint(
    output: Path,
    *,
    family: Family,
    task: str,
    config: Any,
    labels: tuple[str, ...],
    weights: Mapping[str, torch.Tensor],
    metrics: Mapping[str, Any],
    files: Mapping[str, bytes],
) -> None:
    """Write the folder, whole or not at all, in place of what is there.

    files: what the objective and a run that was cut off keep, by name.
    """
    from safetensors.torch import save

    head = {"family": family.name, "task": task, "schema": SCHEMA, "version": _version()}
    contents: dict[str, bytes] = {
        "config.json": as_json({"edgetfm": head, "config": asdict(config), "labels": [*labels]}),
        # Clones: safetensors refuses tensors that share memory, as tied weights do.
        "model.safetensors": save({n: w.detach().clone() for n, w in weights.items()}),
        "metrics.json": as_json(metrics),
        **files,
    }
    with NewFolder(output) as folder:
        for relative, content in contents.items():
            with NewFile(folder.path / relative) as file:
                file.write(content)
        folder.commit(replace=True)


def as_json(data: Mapping[str, Any]) -> bytes:
    """A file of JSON that people can read."""
    return (json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _version() -> str:
    try:
        return version("edgetfm")
    except PackageNotFoundError:  # a bare checkout
        return "unknown"
