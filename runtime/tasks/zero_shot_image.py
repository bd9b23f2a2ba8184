"""zero-shot-image-classification: which of some texts fits each picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgetfm.errors import InputError
from edgetfm.runtime.tasks._pictures import run_pictures
from edgetfm.runtime.tasks._texts import Asked, softmax
from edgetfm.signature import Array

TEMPLATE = "This is a photo of {}."


def match_labels(
    asked: Asked,
    images: Sequence[Any],
    *,
    candidate_labels: Sequence[str] = (),
    hypothesis_template: str = TEMPLATE,
    batch_size: int = 1,
) -> list[list[dict[str, Any]]]:
    """For each picture the labels as {"score", "label"}, the best first.

    Each label is put into `hypothesis_template` and read by the model. The scores sum to 1, but
    those of SigLIP, which was trained on one label at a time.
    """
    labels = [candidate_labels] if isinstance(candidate_labels, str) else list(candidate_labels)
    if not labels:
        raise InputError("candidate_labels is empty: give the labels to choose from")
    if "{}" not in hypothesis_template:
        raise InputError(f"hypothesis_template has no {{}} for the label: {hypothesis_template!r}")
    texts = asked.preprocessor.texts([hypothesis_template.format(label) for label in labels])
    done = run_pictures(asked, images, batch_size=batch_size, beside=texts)
    return [_ranked(_scores(asked, outputs["logits_per_image"]), labels) for _, outputs in done]


def _scores(asked: Asked, logits: Array) -> Array:
    if "siglip" in str(asked.config.get("model_type")):
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float32))))
    return np.asarray(softmax(logits))


def _ranked(scores: Array, labels: Sequence[str]) -> list[dict[str, Any]]:
    order = np.argsort(-scores, kind="stable")
    return [{"score": float(scores[i]), "label": labels[i]} for i in order]
