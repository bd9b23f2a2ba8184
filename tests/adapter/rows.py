"""The rows of model_types.toml, and the class of transformers that does each task."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

AUTO = {
    "feature-extraction": "AutoModel",
    "fill-mask": "AutoModelForMaskedLM",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "image-classification": "AutoModelForImageClassification",
    "image-feature-extraction": "AutoModel",
    "audio-classification": "AutoModelForAudioClassification",
    "automatic-speech-recognition": "AutoModelForCTC",
    "audio-feature-extraction": "AutoModel",
    "audio-frame-classification": "AutoModelForAudioFrameClassification",
    "audio-xvector": "AutoModelForAudioXVector",
    "object-detection": "AutoModelForObjectDetection",
    "image-segmentation": "AutoModelForSemanticSegmentation",
    "depth-estimation": "AutoModelForDepthEstimation",
    "zero-shot-image-classification": "AutoModelForZeroShotImageClassification",
}


def model_types() -> dict[str, dict[str, Any]]:
    """The rows of model_types.toml by model type."""
    return tomllib.loads((Path(__file__).parent / "model_types.toml").read_text("utf-8"))
