"""llama.cpp on a GGUF file, through its C interface: no sampler of its own, and no copies."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from shared import log_likelihoods, versions

CONTEXT = 1024


class Rival:
    def __init__(self, request: dict[str, Any]) -> None:
        file = Path(request["model"])
        self.model = loaded(file)
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = CONTEXT
        settings.n_threads = settings.n_threads_batch = request["threads"]
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        self.words = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.versions = versions("llama-cpp-python")
        self.bytes = file.stat().st_size

    def write(self, ids: list[int], new: int) -> Iterator[int]:
        self.forget()
        for _ in range(new):
            token = int(self.read(ids).argmax())
            yield token
            ids = [token]

    def read(self, ids: list[int]) -> np.ndarray:
        """The logits after these tokens, which go on from those before."""
        tokens = (ctypes.c_int32 * len(ids))(*ids)
        self.decode(llama_cpp.llama_batch_get_one(tokens, len(ids)))
        return np.ctypeslib.as_array(
            llama_cpp.llama_get_logits_ith(self.context, -1), (self.words,)
        )

    def score(self, ids: list[int]) -> list[float]:
        self.forget()
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for at, token in enumerate(ids):
            batch.token[at], batch.pos[at], batch.logits[at] = token, at, True
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, 0
        self.decode(batch)
        found = llama_cpp.llama_get_logits(self.context)
        scores = log_likelihoods(np.ctypeslib.as_array(found, (len(ids), self.words)), ids)
        llama_cpp.llama_batch_free(batch)
        return scores

    def forget(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def decode(self, batch: Any) -> None:
        if llama_cpp.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")


def loaded(file: Path) -> Any:
    llama_cpp.llama_backend_init()
    # It repacks weights for this processor's kernels as it loads them.
    settings = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(str(file).encode(), settings)
    if model is None:
        raise RuntimeError(f"llama.cpp does not load {file}")
    return model
