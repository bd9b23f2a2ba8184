"""Checkpoints that edgetfm's own training writes: safetensors and a config."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from edgetfm import assets, models
from edgetfm.errors import SourceError
from edgetfm.files import sha256
from edgetfm.layers.fold import fold as fold_constants
from edgetfm.models._family import Family
from edgetfm.models._lazy import LazyWeight
from edgetfm.sources import _weights
from edgetfm.sources._generation import generation_of
from edgetfm.sources._hub import called
from edgetfm.sources._source import Source, Streamed, eager
from edgetfm.tasks import task_named

SCHEMA = 1
SAMPLES = ("sample.npz", "sample.jsonl")
"""Validation data that training keeps: what a module takes, or texts."""


def is_checkpoint(folder: Path) -> bool:
    """Whether the folder's config.json is one of ours."""
    path = folder / "config.json"
    try:
        return path.is_file() and "edgetfm" in assets.read_json(path)
    except SourceError:
        return False


def config_of(folder: Path, family: Family) -> Any:
    """The config in a checkpoint folder of this family; SourceError if it is of another."""
    data = assets.read_json(folder / "config.json", required=True)
    found, _ = _head(data, folder)
    if found.name != family.name:
        raise SourceError(f"{folder} is a {found.name}, not a {family.name}")
    return _config(family, data.get("config"), folder)


def open_checkpoint(folder: Path, task: str | None = None) -> Source:
    """The model in a checkpoint folder of ours."""
    data = assets.read_json(folder / "config.json", required=True)
    family, trained_for = _head(data, folder)
    task_name = task_named(task).name if task else trained_for
    family.check_task(task_name)
    config = _config(family, data.get("config"), folder)
    paths = _weights.weight_files(folder)
    weights = _weights.open_weights(paths)
    _weights.check_finite(weights)
    skeleton = _weights.empty(lambda: family.build(config, task_name))
    # Another task of the same family leaves the trained head behind.
    elsewhere = family.from_hf.elsewhere if family.from_hf and task_name != trained_for else r"^$"
    unused = _weights.check_fit(skeleton, weights, elsewhere)
    senses = task_named(task_name).senses
    if family.stages and "text" not in senses:
        senses = (*senses, "text")  # what it writes
    prepared = assets.read_inputs(folder, senses, config)
    files, generation = generation_of(folder, data, family, config)
    samples = (path for path in (folder / name for name in SAMPLES) if path.is_file())
    return Source(
        kind="checkpoint",
        name=called(folder),
        family=family,
        config=config,
        task=task_name,
        provenance={
            "kind": "checkpoint",
            "name": called(folder),
            "sha256": {p.name: sha256(p) for p in [folder / "config.json", *paths]},
        },
        build_module=lambda: _module(family, config, task_name, paths, fold=True),
        build_reference=lambda: eager(_module(family, config, task_name, paths, fold=False)),
        assets={
            "config.json": _as_hugging_face(data, family, config, task_name),
            **prepared.assets,
            **files,
        },
        preprocessing=prepared.preprocessing,
        labels=tuple(map(str, data.get("labels") or ())),
        sample=next(samples, None),
        notes=(
            *((f"the head for {trained_for} was left out",) if unused else ()),
            *prepared.notes,
        ),
        generation=generation,
        build_streamed=(lambda: _streamed(family, config, task_name, paths))
        if family.streams
        else None,
    )


def _as_hugging_face(data: dict[str, Any], family: Family, config: Any, task: str) -> bytes:
    """The checkpoint's config, with what other people's programs look for in one."""
    known = family.to_hf(config, task) if family.to_hf else {}
    if known and task.endswith("-classification"):
        names = [str(label) for label in data.get("labels") or ()]
        known["id2label"] = {str(i): name for i, name in enumerate(names)}
        known["label2id"] = {name: i for i, name in enumerate(names)}
    return (json.dumps({**data, **known}, indent=2, ensure_ascii=False) + "\n").encode()


def _head(data: dict[str, Any], folder: Path) -> tuple[Family, str]:
    head = data["edgetfm"]
    schema = head.get("schema") if isinstance(head, dict) else None
    if not isinstance(schema, int) or schema < 1:
        raise SourceError(f"{folder / 'config.json'} has no valid edgetfm schema")
    if schema > SCHEMA:
        raise SourceError(
            f"{folder} has schema {schema}, this edgetfm reads up to {SCHEMA}: upgrade edgetfm"
        )
    return models.family_named(str(head.get("family"))), task_named(str(head.get("task"))).name


def _config(family: Family, values: Any, folder: Path) -> Any:
    known = {f.name for f in fields(family.config)}
    unknown = sorted(set(values) - known) if isinstance(values, dict) else ["config"]
    if unknown:
        raise SourceError(f"{folder / 'config.json'}: unknown in {family.name}: {unknown}")
    try:
        return family.config(
            **{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        )
    except (TypeError, ValueError) as error:
        raise SourceError(f"{folder / 'config.json'} is malformed: {error}") from error
    except SourceError as error:
        raise SourceError(f"{folder / 'config.json'}: {error}") from error


def _module(family: Family, config: Any, task: str, paths: list[Path], *, fold: bool) -> nn.Module:
    module = _weights.empty(lambda: family.build(config, task))
    _weights.fill(module, _weights.open_weights(paths))
    if fold:
        fold_constants(module)
    return module


def _streamed(family: Family, config: Any, task: str, paths: list[Path]) -> Streamed:
    weights = {n: LazyWeight.of(w) for n, w in _weights.open_weights(paths).items()}
    module = _weights.empty(lambda: family.build(config, task)).eval()
    return module, {name: weights[name] for name in module.state_dict()}
