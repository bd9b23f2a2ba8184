"""Sounds: the wave itself, or the bands of its spectrum that a feature extractor makes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, tensor

from edgetfm import assets
from edgetfm.errors import SourceError
from edgetfm.feature_extractors import read_settings, returns_mask
from edgetfm.signature import BATCH, SAMPLES, SEQUENCE, TensorSpec
from edgetfm.sources._sound import check_sounds
from edgetfm.sources.adapter._sense import AdapterConfig, SenseRow, parameters

_LENGTHS = (400, 1_000, 16_000, 48_001)


def _facts(model: Any, _folder: Path, _pooling: assets.Pooling) -> dict[str, Any]:
    """The convolutions that shorten a wave, and the fewest samples that come through them."""
    config = model.config
    kernels, strides = (getattr(config, f"conv_{name}", None) for name in ("kernel", "stride"))
    writes = type(model).__name__.endswith("ForCTC")
    if kernels is None or strides is None:
        return {"letters": writes}
    steps = list(zip(map(int, kernels), map(int, strides), strict=True))
    least = _least_frames(model)
    for kernel, stride in reversed(steps):
        least = (least - 1) * stride + kernel
    if getattr(config, "add_adapter", False):
        steps += [(1, int(config.adapter_stride))] * int(config.num_adapter_layers)
    _check_lengths(model, steps, least)
    return {"least": least, "convolutions": tuple(steps), "letters": writes}


def _least_frames(model: Any) -> int:
    """How many frames its head takes at least.

    That of x-vectors convolves over them, and takes the deviation of what is left: of two or more.
    """
    least, config = 1, model.config
    if type(model).__name__.endswith("ForXVector"):
        least = 2
        for kernel, dilation in zip(config.tdnn_kernel, config.tdnn_dilation, strict=True):
            least += (int(kernel) - 1) * int(dilation)
    return least


def _check_lengths(model: Any, steps: list[tuple[int, int]], least: int) -> None:
    """Raise a SourceError if the model itself counts other frames than its convolutions give."""
    count = getattr(model, "_get_feat_extract_output_lengths", None)
    if count is None:
        return
    for length in _LENGTHS:
        ours = length
        for kernel, stride in steps:
            ours = (ours - kernel) // stride + 1
        if length >= least and int(count(tensor(length))) != ours:
            raise SourceError(
                f"{type(model).__name__} makes another number of frames of {length} samples than "
                f"its conv_kernel and conv_stride do, {int(count(tensor(length)))} and not {ours}"
            )


def _inputs(model: Any, folder: Path, config: AdapterConfig) -> tuple[TensorSpec, ...]:
    name = AUDIO.main_of(parameters(model))
    shape = _shape(model, config)
    length = shape[1]
    masked = isinstance(length, str) and "attention_mask" in parameters(model)
    if masked and read_settings(folder):
        masked = returns_mask(folder)
    elif masked:  # what transformers advises: group norms look at padding whatever a mask says
        masked = getattr(model.config, "feat_extract_norm", "layer") == "layer"
    values = TensorSpec(name, "float32", shape)
    return (values, TensorSpec("attention_mask", "int64", (BATCH, length)))[: 1 + masked]


def _shape(model: Any, config: AdapterConfig) -> tuple[int | str, ...]:
    own = model.config
    if config.convolutions:
        return (BATCH, SAMPLES)
    if hasattr(own, "feature_projection_input_dim"):
        return (BATCH, SEQUENCE, own.feature_projection_input_dim)
    if hasattr(own, "max_source_positions") and hasattr(own, "num_mel_bins"):
        return (BATCH, own.num_mel_bins, 2 * own.max_source_positions)
    if hasattr(own, "max_length") and hasattr(own, "num_mel_bins"):
        return (BATCH, own.max_length, own.num_mel_bins)
    raise SourceError(
        f"{type(model).__name__} takes sounds in a form that edgetfm does not know: known are "
        "waves through convolutions, and the spectra of Whisper, AST and Wav2Vec2-BERT"
    )


def _sound(
    model: Any, answer: Any, inputs: Mapping[str, Tensor], _pooling: assets.Pooling
) -> dict[str, Tensor]:
    """Hidden states [batch, frames, width], and what the model pools of them, or their mean."""
    hidden: Tensor = answer["last_hidden_state"]
    pooled: Tensor | None = answer.get("pooler_output")
    if pooled is None:
        mask = inputs.get("attention_mask")
        pooled = hidden.mean(1) if mask is None else _mean(model, hidden, mask)
    return {"last_hidden_state": hidden, "audio_embedding": pooled}


def _mean(model: Any, hidden: Tensor, mask: Tensor) -> Tensor:
    """Over the frames of the sound, without those of its padding."""
    frames = model._get_feature_vector_attention_mask(hidden.shape[1], mask)
    weights = frames.to(hidden.dtype)[:, :, None]
    mean: Tensor = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1.0)
    return mean


AUDIO = SenseRow(
    main="input_values",
    other_main="input_features",
    body="audio-feature-extraction",
    facts=_facts,
    inputs=_inputs,
    check=check_sounds,
    answers={"audio-feature-extraction": _sound},
)
