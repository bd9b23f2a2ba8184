"""Which models the adapter takes: encoders of one text or one picture, with all their weights."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgetfm import assets
from edgetfm.errors import SourceError
from edgetfm.sources import _reference
from edgetfm.tasks import TASKS

TEXT_TASKS = (
    "feature-extraction",
    "fill-mask",
    "question-answering",
    "text-classification",
    "token-classification",
)
IMAGE_TASKS = ("image-classification", "image-feature-extraction")

_OTHER_MODALITIES = ("bbox", "pixel_values", "xpath_tags_seq", "input_values", "input_features")
_FIRST_OF_MISSING = 5


def refuse_others(raw: Mapping[str, Any], folder: Path) -> None:
    """Raise a SourceError for what is no float encoder by its config alone."""
    kind = raw.get("model_type")
    if raw.get("quantization_config"):
        raise SourceError(f"{folder} is quantized already: give the float checkpoint it is made of")
    problem = _no_encoder(str(kind))
    if problem:
        raise SourceError(
            f"{folder} has the model type {kind!r}, {problem}: edgetfm takes encoders"
        )
    said = [k for k in ("is_encoder_decoder", "is_decoder", "add_cross_attention") if raw.get(k)]
    if said:
        raise SourceError(f"{folder} has {said[0]} in its config: edgetfm takes encoders")


def _no_encoder(model_type: str) -> str:
    """Why a model type cannot be an encoder, '' if it can."""
    from transformers import AutoConfig
    from transformers.models.auto import modeling_auto as auto

    try:
        config = AutoConfig.for_model(model_type)
    except ValueError:
        return ""  # its code comes with the folder
    except Exception:  # a config that is not made of nothing
        return ""
    if config.is_encoder_decoder:
        return "an encoder-decoder"
    causal, masked = (
        model_type in names
        for names in (
            auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
            auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        )
    )
    return "a decoder" if causal and not masked else ""


def task_of_head(raw: Mapping[str, Any], folder: Path) -> str | None:
    """The task of the head that the config names; None without a head."""
    head = "" if (folder / "modules.json").is_file() else assets.read_head(raw)
    if not head:
        return None
    if head not in assets.HEADS:
        raise SourceError(
            f"{folder} is a {raw['architectures'][0]}, a head that edgetfm does not know; "
            f"choose one with --task: {', '.join((*TEXT_TASKS, *IMAGE_TASKS))}"
        )
    return assets.HEADS[head]


def load_encoder(folder: Path, task: str | None, trust: bool) -> tuple[Any, list[str]]:
    """The model with the head of a task, and what of its weights the task has no use for."""
    model, info = _reference.load_model(folder, task or "feature-extraction", trust)
    idle = ("pooler.",) if not (task or "").startswith("image") or pools_first(model) else ()
    missing = sorted(n for n in info["missing_keys"] if not _is_in(n, idle))
    if missing:
        more = f" and {len(missing) - _FIRST_OF_MISSING} more"
        shown = ", ".join(missing[:_FIRST_OF_MISSING])
        raise SourceError(
            f"{folder} lacks weights of {type(model).__name__}, which would be random: "
            f"{shown}{more * (len(missing) > _FIRST_OF_MISSING)}\n"
            "give the task that the checkpoint was trained for with --task"
        )
    unused = sorted({n.rpartition(".")[0] or n for n in info["unexpected_keys"]})
    note = f"{task or 'feature-extraction'} has no use for these weights: {', '.join(unused)}"
    return model, [note] if unused else []


def pools_first(model: Any) -> bool:
    """Whether its pooler is a dense layer of pre-training: features are the first token then."""
    return hasattr(getattr(model, "pooler", None), "dense")


def _is_in(weight: str, modules: Sequence[str]) -> bool:
    return any(weight.startswith(m) or f".{m}" in weight for m in modules)


def task_of_body(model: Any) -> str:
    """The task of a model without a head."""
    takes = getattr(model, "main_input_name", "nothing")
    known = {"input_ids": "feature-extraction", "pixel_values": "image-feature-extraction"}
    if takes not in known:
        raise SourceError(
            f"{type(model).__name__} takes {takes}; edgetfm takes {' and '.join(known)}"
        )
    return known[takes]


def parameters(model: Any) -> Mapping[str, Any]:
    return inspect.signature(type(model).forward).parameters


def check_modality(model: Any, task: str) -> str:
    """`text` or `image`; a SourceError if the model takes something else, or both."""
    modality = TASKS[task].modality
    main = "input_ids" if modality == "text" else "pixel_values"
    takes, kind = parameters(model), type(model).__name__
    if main not in takes:
        raise SourceError(f"{kind} does not do {task}: it takes no {main}")
    others = {*_OTHER_MODALITIES, "input_ids"} - {main}
    if found := sorted(others & takes.keys()):
        raise SourceError(
            f"{kind} takes {', '.join(found)} beside {main}: edgetfm takes one of them"
        )
    if getattr(model.config, "attention_type", None) == "block_sparse":
        raise SourceError(
            f"{kind} has attention_type block_sparse, which long texts alone use and no graph can "
            "switch on: write original_full into config.json to export it with full attention"
        )
    if modality == "text" and "attention_mask" not in takes:
        raise SourceError(
            f"{kind} takes no attention_mask: what it answers to a text depends on the padding"
        )
    return modality
