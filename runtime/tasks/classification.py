"""text-classification and image-classification: the likeliest labels of each input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from edgetfm.errors import InputError
from edgetfm.runtime.tasks._texts import Asked, batches, check_top_k, run_texts, softmax
from edgetfm.signature import Array

Scored = dict[str, Any]
FUNCTIONS = ("softmax", "sigmoid", "none")


def classify_texts(
    asked: Asked,
    texts: Sequence[Any],
    *,
    top_k: int | Literal["best"] | None = "best",
    function_to_apply: str | None = None,
    batch_size: int = 1,
    max_length: int | None = None,
) -> list[Scored] | list[list[Scored]]:
    """For each text its likeliest label as {"label", "score"}.

    With `top_k` a list of as many, the likeliest first; None is all.
    """
    count = 1 if top_k == "best" else top_k
    check_top_k(count)
    rows: dict[int, Any] = {}
    for i, _, outputs in run_texts(asked, texts, batch_size=batch_size, max_length=max_length):
        best = likeliest(asked, outputs["logits"], count, function_to_apply)
        rows[i] = best[0] if top_k == "best" else best
    return [rows[i] for i in range(len(texts))]


def classify_images(
    asked: Asked,
    images: Sequence[Any],
    *,
    top_k: int | None = 5,
    function_to_apply: str | None = None,
    batch_size: int = 1,
) -> list[list[Scored]]:
    """For each image its `top_k` labels as {"label", "score"}, the likeliest first; None is all."""
    check_top_k(top_k)
    return [
        likeliest(asked, logits, top_k, function_to_apply)
        for batch in batches(images, batch_size)
        for logits in asked.model.run(asked.preprocessor.images(batch))["logits"]
    ]


def likeliest(asked: Asked, logits: Array, top_k: int | None, function: str | None) -> list[Scored]:
    """The likeliest labels of one row of logits, [labels]; `function` None is the usual one."""
    scores = _scores(logits, function or _usual_function(asked, logits.shape[-1]))
    order = np.argsort(-scores, kind="stable")[:top_k]
    return [{"label": asked.label(int(i)), "score": float(scores[i])} for i in order]


def _usual_function(asked: Asked, labels: int) -> str:
    """What transformers applies: config.json's problem_type decides, else the number of labels."""
    problem = asked.config.get("problem_type")
    if problem == "regression":
        return "none"
    several = problem == "multi_label_classification" or labels == 1
    return "sigmoid" if several else "softmax"


def _scores(logits: Array, function: str) -> Array:
    values = np.asarray(logits, dtype=np.float32)
    if function == "softmax":
        return np.asarray(softmax(values))
    if function == "sigmoid":
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)))  # does not overflow
    if function == "none":
        return values
    raise InputError(f"function_to_apply is '{function}', known are {', '.join(FUNCTIONS)}")
