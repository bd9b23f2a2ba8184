"""Adapters that PEFT trained (LoRA and its kin), merged into the model they were trained on."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from edgetfm import assets
from edgetfm.errors import MissingExtra, SourceError
from edgetfm.files import sha256
from edgetfm.sources import _hub, _reference, _weights
from edgetfm.sources._quantized import refuse_quantized
from edgetfm.sources._source import Oracle, Source
from edgetfm.sources.huggingface import open_huggingface
from edgetfm.tasks import task_named

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

_TASKS = {
    "SEQ_CLS": "text-classification",
    "TOKEN_CLS": "token-classification",
    "QUESTION_ANS": "question-answering",
    "FEATURE_EXTRACTION": "feature-extraction",
    "CAUSAL_LM": "text-generation",
}
"""What PEFT calls a task."""

_BESIDE = ("*.json", "*.txt", "*.model", "*.jinja", "README.md")
"""Tokenizers and their kin: the adapter's own where it brings some, else its base's."""


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder and the folder of its base model."""

    folder: Path
    base: Path
    task: str

    def unmerged(self) -> Any:
        """The base with the adapter beside its weights, as it was trained: a PeftModel in eval."""
        from peft import PeftModel, get_peft_model_state_dict

        model = _base_model(self)
        with _reference.quiet_transformers():
            try:
                found = PeftModel.from_pretrained(model, str(self.folder), torch_device="cpu")
            except Exception as error:  # whatever a file makes PEFT raise
                raise SourceError(f"PEFT cannot load {self.folder}: {error}") from error
        # PEFT only warns: what is not in the file stays as it was made, and changes nothing.
        brought = _weights.open_weights([self.folder / WEIGHTS])
        wanted = get_peft_model_state_dict(found, save_embedding_layers=False)
        absent = [n for n in wanted if "lora_" in n and n not in brought]
        if absent:
            raise SourceError(
                f"{self.folder / WEIGHTS} lacks {len(absent)} weights of the adapter, such as "
                f"{absent[0]}: it was trained on another model, or for another --task"
            )
        return found.float().requires_grad_(False).eval()


def open_peft(
    folder: Path, name: str, task: str | None = None, *, route: str | None = None
) -> Source:
    """The model that an adapter and its base make together, merged.

    name: what to call it. The base is found by the name in adapter_config.json: as a path, beside
    the adapter, or on the hub. The oracle is the model as it was trained, with the adapter beside
    the weights: the proof covers the merging. Raises SourceError for adapters that are pickled,
    cannot be merged or leave a head without weights, MissingExtra without the package peft.
    """
    try:
        from peft import PeftModel  # noqa: F401
    except ImportError as error:
        raise MissingExtra("peft", "reading PEFT adapters") from error
    config = assets.read_json(folder / CONFIG, required=True)
    _check(folder, config)
    base = _base(folder, config)
    refuse_quantized(assets.read_json(base / "config.json", required=True), base)
    adapter = Adapter(folder, base, _task(config, task, folder))
    merged = Path(tempfile.mkdtemp(prefix="edgetfm-peft-"))
    held = weakref.finalize(adapter, shutil.rmtree, merged, ignore_errors=True)
    try:
        _merge(adapter, merged)
        opened = open_huggingface(merged, adapter.task, route=route)
    except BaseException:
        held()
        raise
    kept = {"adapter": [folder / CONFIG, folder / WEIGHTS]}
    kept["base"] = [base / "config.json", *_weights.weight_files(base)]
    return replace(
        opened,
        kind="peft",
        name=name,
        provenance={
            "kind": "peft",
            "name": name,
            "base": base.name,
            "model_type": opened.provenance["model_type"],
            "sha256": {f"{who}/{p.name}": sha256(p) for who, found in kept.items() for p in found},
        },
        build_module=lambda: _held(adapter, opened).module(),
        build_reference=lambda: _oracle(adapter, opened),
        notes=(
            f"the {config.get('peft_type')} adapter was merged into {base.name}",
            *opened.notes,
        ),
    )


def _held(_adapter: Adapter, opened: Source) -> Source:
    """The merged model; its folder lives as long as the adapter does."""
    return opened


def _check(folder: Path, config: Mapping[str, Any]) -> None:
    if not (folder / WEIGHTS).is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        found = "only adapter_model.bin, which is unpickled" if pickled else "no weights"
        raise SourceError(
            f"{folder} has {found}: expected {WEIGHTS}"
            + (", which save_pretrained of PEFT writes" if pickled else "")
        )
    if config.get("megatron_config"):
        raise SourceError(f"{folder / CONFIG} has a megatron_config, which edgetfm does not honour")
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PromptLearningConfig

    kind = config.get("peft_type")
    known = {str(k.value): found for k, found in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    if not isinstance(kind, str) or kind not in known:
        raise SourceError(f"{folder / CONFIG} has the peft_type {kind!r}, which PEFT does not know")
    if issubclass(known[kind], PromptLearningConfig):
        raise SourceError(
            f"{folder} is a {kind} adapter: learned tokens, which are no weights to merge"
        )


def _task(config: Mapping[str, Any], wanted: str | None, folder: Path) -> str:
    if wanted is not None:
        return task_named(wanted).name
    known = _TASKS.get(str(config.get("task_type")))
    mapped = config.get("auto_mapping")
    mapped = mapped if isinstance(mapped, Mapping) else {}
    named = assets.read_head({"architectures": [mapped.get("base_model_class", "")]})
    found = known or assets.HEADS.get(named)
    if found is None:
        raise SourceError(
            f"{folder / CONFIG} does not say what it is for (task_type is "
            f"{config.get('task_type')!r}): choose with --task"
        )
    return found


def _base(folder: Path, config: Mapping[str, Any]) -> Path:
    """The folder of the base model, looked for where its name may mean."""
    name = config.get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise SourceError(f"{folder / CONFIG} does not name its base model")
    last = Path(name).name
    places = [Path(name), folder / name, folder.resolve().parent / last, folder / last]
    for place in places:
        if (place / "config.json").is_file() and place.resolve() != folder.resolve():
            return place
    try:
        return _hub.locate(name)[0]
    except SourceError as error:
        raise SourceError(
            f"the adapter {folder} was trained on {name!r}, which is not at "
            f"{', '.join(map(str, dict.fromkeys(places)))}: put it there\n{error}"
        ) from error


def _base_model(adapter: Adapter) -> Any:
    """The base with a head of the adapter's size; a SourceError if weights would be random."""
    trained = _weights.open_weights([adapter.folder / WEIGHTS])
    labels = _labels(trained) if adapter.task.endswith("-classification") else None
    options: dict[str, Any] = {} if labels is None else {"num_labels": labels}
    model, info = _reference.load_model(adapter.base, adapter.task, **options)
    brought = {_plain(name) for name in trained}
    idle = ("pooler.",) if adapter.task != "text-classification" else ()
    missing = [
        name
        for name in info["missing_keys"]
        if name not in brought and not any(part in name for part in idle)
    ]
    if missing:
        raise SourceError(
            f"neither {adapter.folder} nor its base {adapter.base} has {', '.join(missing[:5])}, "
            "which would be random: train the head with modules_to_save, or choose another --task"
        )
    return model


def _labels(trained: Mapping[str, torch.Tensor]) -> int | None:
    """The classes of the head that the adapter brings: the rows of its last weight."""
    heads = [n for n in trained if ("classifier" in n or "score" in n) and n.endswith("weight")]
    plain = [n for n in heads if "lora_" not in n]
    last = next((n for n in plain if "out_proj" in n), plain[-1] if plain else None)
    return None if last is None else int(trained[last].shape[0])


def _plain(name: str) -> str:
    """The base's name of a weight that an adapter brings whole."""
    return name.removeprefix("base_model.model.").replace(".modules_to_save.", ".")


def _merge(adapter: Adapter, folder: Path) -> None:
    """Write the merged model as a Hugging Face folder."""
    unmerged = adapter.unmerged()
    with _reference.quiet_transformers():
        try:
            merged = unmerged.merge_and_unload(safe_merge=True)
        except Exception as error:  # not every layer merges, and NaN is refused
            raise SourceError(f"{adapter.folder} cannot be merged: {error}") from error
        merged.save_pretrained(folder)
    for place in (adapter.folder, adapter.base):
        for file in (f for pattern in _BESIDE for f in place.glob(pattern)):
            skipped = file.name in (CONFIG, "modules.json") or file.name.endswith(".index.json")
            if not skipped and not (folder / file.name).exists():
                shutil.copyfile(file, folder / file.name)
    if (adapter.base / "modules.json").is_file() and adapter.task == "feature-extraction":
        shutil.copyfile(adapter.base / "modules.json", folder / "modules.json")
        for module in adapter.base.glob("[0-9]_*"):
            shutil.copytree(module, folder / module.name)


def _oracle(adapter: Adapter, opened: Source) -> Oracle:
    """The model as it was trained: the adapter beside the weights, not in them."""
    model = adapter.unmerged().base_model.model
    if opened.route == "native":
        return _reference.oracle_of(model, opened.task, opened.config)
    from edgetfm.sources.adapter.module import Adapted, answering

    pooling = assets.Pooling(opened.config.pooling, opened.config.normalize)
    return answering(Adapted(model, opened.task, pooling).eval())
