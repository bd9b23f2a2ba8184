"""Which models the adapter takes: encoders of one text or one picture, with all their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgetfm import assets
from edgetfm.errors import SourceError
from edgetfm.sources import _reference

_FIRST_OF_MISSING = 5
IDLE = "has no use for these weights"
"""What a note says of weights that are left out."""


def refuse_others(raw: Mapping[str, Any], folder: Path) -> None:
    """Raise a SourceError for what is no float encoder by its config alone."""
    kind = raw.get("model_type")
    if raw.get("quantization_config"):
        raise SourceError(f"{folder} is quantized already: give the float checkpoint it is made of")
    if _reads_queries(str(kind)) or assets.read_head(raw) == "ForAudioClassification":
        return
    problem = _no_encoder(str(kind))
    if problem:
        raise SourceError(
            f"{folder} has the model type {kind!r}, {problem}: edgetfm takes encoders"
        )
    said = [k for k in ("is_encoder_decoder", "is_decoder", "add_cross_attention") if raw.get(k)]
    if said:
        raise SourceError(f"{folder} has {said[0]} in its config: edgetfm takes encoders")


def _reads_queries(model_type: str) -> bool:
    """Whether the decoder of a type, if it has one, answers for all queries at once, as DETR's."""
    from transformers.models.auto import modeling_auto as auto

    return any(
        model_type in names
        for names in (
            auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES,
            auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES,
            auto.MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES,
            auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        )
    )


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
    note = f"{task or 'feature-extraction'} {IDLE}: {', '.join(unused)}"
    return model, [note] if unused else []


def pools_first(model: Any) -> bool:
    """Whether its pooler is a dense layer of pre-training: features are the first token then."""
    return hasattr(getattr(model, "pooler", None), "dense")


def _is_in(weight: str, modules: Sequence[str]) -> bool:
    return any(weight.startswith(m) or f".{m}" in weight for m in modules)
