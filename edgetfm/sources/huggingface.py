"""Models in the Hugging Face layout: a folder, or an id on the hub."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

from torch import nn

from edgetfm import assets, models
from edgetfm.errors import MissingExtra, NotHonoured, SourceError, in_short
from edgetfm.files import sha256
from edgetfm.layers.fold import fold
from edgetfm.models._config import LARGEST
from edgetfm.models._family import Family
from edgetfm.models._lazy import LazyWeight
from edgetfm.sentence import read_sentence_head
from edgetfm.sources import _hub, _piecewise, _reference, _weights
from edgetfm.sources._generation import generation_of
from edgetfm.sources._quantized import refuse_quantized
from edgetfm.sources._sentence import with_head
from edgetfm.sources._source import Source, Streamed
from edgetfm.sources.adapter import IDLE, open_adapted
from edgetfm.tasks import task_named


def open_huggingface(
    spec: Any,
    task: str | None = None,
    *,
    trust_remote_code: bool = False,
    route: str | None = None,
) -> Source:
    """The model in a folder, or on the hub if no such folder exists.

    Its type decides the route if none is given: native if a family of ours has it.
    """
    folder, name = _hub.locate(spec)
    if (folder / "adapter_config.json").is_file():
        from edgetfm.sources.peft import open_peft  # which opens what it merged by this function

        return open_peft(folder, name, task, route=route)
    head = read_sentence_head(folder)
    if head is None:
        return _opened(folder, name, task, trust_remote_code, route)
    wanted = task or "feature-extraction"
    opened = _opened(folder / head.place, name, wanted, trust_remote_code, route)
    plain = head.is_plain or opened.task != "feature-extraction"
    return opened if plain else with_head(opened, head)


def _opened(
    folder: Path, name: str, task: str | None, trust_remote_code: bool, route: str | None
) -> Source:
    """The model in a folder on this machine."""
    raw = assets.read_json(folder / "config.json", required=True)
    refuse_quantized(raw, folder)
    family = _family(raw, folder, route)
    if family is None:
        return _adapted(folder, name, raw, task, trust_remote_code)
    try:
        return _native(folder, name, raw, family, task, trust_remote_code)
    except NotHonoured as error:
        if route == "native":
            raise
        return _adapted(folder, name, raw, task, trust_remote_code, instead=error)


def _adapted(
    folder: Path,
    name: str,
    raw: Mapping[str, Any],
    task: str | None,
    trust_remote_code: bool,
    *,
    instead: NotHonoured | None = None,
) -> Source:
    """The model through transformers' own module; `instead` of a family that does not honour it."""
    complete_config(raw, folder, trust_remote_code)
    wanted = task_named(task).name if task else None
    try:
        opened = open_adapted(folder, name, raw, wanted, trust_remote_code=trust_remote_code)
    except SourceError as error:
        if instead is None:
            raise
        raise SourceError(f"{instead}\nnor does the adapter take it: {error}") from error
    if instead is None:
        return opened
    if any(IDLE in note for note in opened.notes):  # transformers no longer honours it either
        raise instead
    reason = " ".join(str(instead).split("\n")[1:]).strip().removeprefix("- ")
    return replace(opened, notes=(f"{reason}: not by a family of edgetfm", *opened.notes))


def _native(
    folder: Path,
    name: str,
    raw: Mapping[str, Any],
    family: Family,
    task: str | None,
    trust_remote_code: bool,
) -> Source:
    """The model in a family of ours."""
    hf = complete_config(raw, folder)
    task_name = _task(raw, folder, family, task)
    assert family.from_hf is not None
    if family.stages and task_name not in family.tasks:
        raise NotHonoured(
            f"the family {family.name} does not do what was asked:\n"
            f"- it has no task '{task_name}', it has {', '.join(family.tasks)}"
        )
    family.check_task(task_name)
    paths = _weights.weight_files(folder)
    config = family.from_hf.config(hf, task_name)
    pooling = assets.read_pooling(folder)
    known = {f.name for f in fields(config)}
    if task_name == "feature-extraction" and {"pooling", "normalize"} <= known:
        config = replace(config, pooling=pooling.how, normalize=pooling.normalize)
    left_out = _check(family, config, task_name, paths)
    senses = task_named(task_name).senses
    if family.stages and "text" not in senses:
        senses = (*senses, "text")  # what it writes
    prepared = assets.read_inputs(folder, senses, config, trust_remote_code=trust_remote_code)
    files, generation = generation_of(folder, hf, family, config)
    large = family.streams and _float_bytes(paths) > _piecewise.LARGE
    read_in_parts = ("the model is large: PyTorch reads its weights part by part",) * large
    return Source(
        kind="huggingface",
        name=name,
        family=family,
        config=config,
        task=task_name,
        provenance={
            "kind": "huggingface",
            "name": name,
            "model_type": raw["model_type"],
            "sha256": {p.name: sha256(p) for p in [folder / "config.json", *paths]},
        },
        build_module=lambda: (
            _large_module(family, config, task_name, paths)
            if large
            else _module(family, config, task_name, paths)
        ),
        build_reference=lambda: (
            _reference.large_oracle(folder, task_name, config, paths)
            if large
            else _reference.transformers_oracle(
                folder, task_name, config, trust_remote_code=trust_remote_code
            )
        ),
        assets={"config.json": (folder / "config.json").read_bytes(), **prepared.assets, **files},
        preprocessing=prepared.preprocessing,
        labels=_labels(hf) if task_named(task_name).labelled else (),
        licence=assets.read_licence(folder),
        notes=(*left_out, *prepared.notes, *read_in_parts),
        generation=generation,
        build_streamed=(lambda: _streamed(family, config, task_name, paths))
        if family.streams
        else None,
    )


def _family(raw: Mapping[str, Any], folder: Path, route: str | None) -> Family | None:
    """The family of the model type; None is the adapter, which takes what no family does."""
    model_type = raw.get("model_type")
    if not isinstance(model_type, str):
        raise SourceError(f"{folder / 'config.json'} has no model_type: it is {model_type!r}")
    family = None if route == "adapter" else models.family_for(model_type)
    if family is None and route == "native":
        known = sorted(t for row in models.TABLE.values() for t in row.model_types)
        raise SourceError(
            f"{folder} has the model type {model_type!r}, which no family of edgetfm has; "
            f"they have {', '.join(known)}. Leave --route out, or give adapter"
        )
    return family


def complete_config(
    raw: Mapping[str, Any], folder: Path, trust_remote_code: bool = False
) -> dict[str, Any]:
    """The config with what the model type takes for granted filled in by transformers."""
    try:
        from transformers import AutoConfig
    except ImportError as error:
        raise MissingExtra("export", "reading Hugging Face models") from error
    labels = raw.get("num_labels")
    if isinstance(labels, int) and labels > LARGEST:  # transformers would name each of them
        raise SourceError(f"{folder / 'config.json'}: num_labels is {labels}, at most {LARGEST}")
    try:
        with _reference.quiet_transformers():
            options: dict[str, Any] = {"trust_remote_code": True} if trust_remote_code else {}
            full = AutoConfig.from_pretrained(folder, local_files_only=True, **options).to_dict()
    except Exception as error:  # whatever a malformed config makes transformers raise
        raise SourceError(
            f"{folder / 'config.json'} is not a usable config: {in_short(error)}"
        ) from error
    return {**raw, **full}


_SEVERAL = "ForConditionalGeneration"
"""The head of all tasks of an encoder-decoder."""


def _task(raw: Mapping[str, Any], folder: Path, family: Family, wanted: str | None) -> str:
    if wanted is not None:
        return task_named(wanted).name
    bodies = (t for t in family.tasks if t.endswith("feature-extraction"))
    features = next(bodies, family.tasks[0])
    if (folder / "modules.json").is_file():
        return features
    head = assets.read_head(raw)
    if not head:
        return features
    task = family.tasks[0] if head == _SEVERAL and family.stages else assets.HEADS.get(head)
    if task is None:
        raise SourceError(
            f"{folder} is a {raw['architectures'][0]}, a head that edgetfm does not know; "
            f"choose one with --task: {', '.join(family.tasks)}"
        )
    return task


def _rewritten(family: Family, paths: list[Path]) -> _weights.Weights:
    assert family.from_hf is not None
    return family.from_hf.rewrite(_weights.open_weights(paths))


def _check(family: Family, config: Any, task: str, paths: list[Path]) -> list[str]:
    assert family.from_hf is not None
    weights = _weights.open_weights(paths)
    _weights.check_finite(weights)
    skeleton = _weights.empty(lambda: family.build(config, task))
    shapes = {n: w.to("meta") for n, w in weights.items()}
    rewritten = family.from_hf.rewrite(shapes)
    unused = set(_weights.check_fit(skeleton, rewritten, family.from_hf.elsewhere))
    # No head's weights are packed, so each weight alone becomes what it does among the others.
    left = [n for n, w in shapes.items() if unused & family.from_hf.rewrite({n: w}).keys()]
    parts = _parts(left, shapes.keys() - set(left))
    return [f"{task} has no use for these weights: {', '.join(parts)}"] if parts else []


def _parts(names: Collection[str], others: Collection[str]) -> list[str]:
    """The modules, as high up as can be, that hold the weights `names` and none of the others."""
    kept = {".".join(n.split(".")[:i]) for n in others for i in range(1, n.count(".") + 2)}
    parts = []
    for name in names:
        paths = [".".join(name.split(".")[:i]) for i in range(1, name.count(".") + 2)]
        parts.append(next((path for path in paths if path not in kept), name))
    return list(dict.fromkeys(parts))


def _module(family: Family, config: Any, task: str, paths: list[Path]) -> nn.Module:
    module = _weights.empty(lambda: family.build(config, task))
    _weights.fill(module, _rewritten(family, paths))
    fold(module)
    return module


def _float_bytes(paths: list[Path]) -> int:
    """The size of all weights in float32."""
    return 4 * sum(w.numel() for w in _weights.open_weights(paths).values())


def _large_module(family: Family, config: Any, task: str, paths: list[Path]) -> nn.Module:
    """The family's module, each part of which has its weights while it runs."""
    skeleton, weights = _streamed(family, config, task, paths)
    tables = ("words",) if config.tied else ()
    return _piecewise.part_by_part(skeleton, lambda name: weights[name].read(), tables)


def _streamed(family: Family, config: Any, task: str, paths: list[Path]) -> Streamed:
    assert family.from_hf is not None
    opened = {n: LazyWeight.of(w) for n, w in _weights.open_weights(paths).items()}
    module = _weights.empty(lambda: family.build(config, task)).eval()
    weights: Any = family.from_hf.rewrite(cast(Any, opened))
    return module, {name: weights[name] for name in module.state_dict()}


def _labels(hf: Mapping[str, Any]) -> tuple[str, ...]:
    names = hf.get("id2label") or {}
    return tuple(str(names.get(i, names.get(str(i), f"LABEL_{i}"))) for i in range(len(names)))
