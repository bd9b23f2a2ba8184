"""Pictures: pixel values of the size that a model's image processor makes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from edgetfm import assets
from edgetfm.image_processors import FREE, read_image_size
from edgetfm.signature import TensorSpec
from edgetfm.sources.adapter._sense import AdapterConfig, SenseRow
from edgetfm.sources.adapter.encoders import pools_first
from edgetfm.sources.adapter.pictures import check_pictures


def _facts(model: Any, folder: Path, _pooling: assets.Pooling) -> dict[str, Any]:
    config = getattr(model.config, "vision_config", None) or model.config
    return {
        "image_size": read_image_size(folder, getattr(config, "image_size", None)),
        "channels": getattr(config, "num_channels", 3),
    }


def _inputs(_model: Any, _folder: Path, config: AdapterConfig) -> tuple[TensorSpec, ...]:
    """Height and width are free where the pictures keep their aspect ratio."""
    free = config.image_size == FREE
    sides: tuple[int | str, ...] = ("height", "width") if free else config.image_size
    return (TensorSpec("pixel_values", "float32", ("batch", config.channels, *sides)),)


def _picture(
    model: Any, answer: Any, _inputs: Mapping[str, Tensor], _pooling: assets.Pooling
) -> dict[str, Tensor]:
    hidden: Tensor = answer["last_hidden_state"]
    vector = hidden[:, 0] if pools_first(model) else _pooled(answer, hidden)
    return {"last_hidden_state": hidden, "image_embedding": vector}


def _pooled(answer: Any, hidden: Tensor) -> Tensor:
    """What the model itself pools, else the mean over places: [batch, width].

    hidden: [batch, tokens, width], or [batch, channels, height, width].
    """
    pooled: Tensor | None = answer.get("pooler_output")
    if pooled is not None:
        return pooled.flatten(1)
    return hidden.mean(dim=1) if hidden.ndim == 3 else hidden.flatten(2).mean(dim=2)


IMAGE = SenseRow(
    main="pixel_values",
    body="image-feature-extraction",
    facts=_facts,
    inputs=_inputs,
    check=check_pictures,
    answers={"image-feature-extraction": _picture},
)
