"""What several rivals do alike."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def versions(*packages: str) -> dict[str, str]:
    return {package: version(package) for package in packages}


def folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def bert_feeds(ids: np.ndarray) -> dict[str, np.ndarray]:
    """One unpadded row of token ids as a BERT takes it."""
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
    }


def log_likelihoods(logits: np.ndarray, ids: list[int]) -> list[float]:
    """What each token after the first had, in nats: logits [tokens, vocabulary] before them."""
    rows = np.asarray(logits[: len(ids) - 1], dtype=np.float64)
    rows = rows - rows.max(-1, keepdims=True)
    said = rows[np.arange(len(rows)), ids[1:]]
    found: list[float] = (said - np.log(np.exp(rows).sum(-1))).tolist()
    return found


def one_thread_session(model: Path) -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
