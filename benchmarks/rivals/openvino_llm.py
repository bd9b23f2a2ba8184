"""OpenVINO's own pipeline for decoders, on a folder that Optimum Intel exported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
import openvino as ov
import openvino_genai as genai
from shared import folder_bytes, log_likelihoods, versions

GRAPH = "openvino_model.xml"


class Rival:
    def __init__(self, request: dict[str, Any]) -> None:
        self.folder = Path(request["model"])
        self.settings = {
            "INFERENCE_NUM_THREADS": request["threads"],
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        # Its other backend attends in pages, for many answers at once: slower for a single one.
        self.pipe = genai.LLMPipeline(self.folder, "CPU", ATTENTION_BACKEND="SDPA", **self.settings)
        self.graph: Any = None
        self.versions = versions("openvino", "openvino-genai", "optimum-intel", "nncf")
        self.bytes = folder_bytes(self.folder)

    def write(self, ids: list[int], new: int) -> Iterator[int]:
        options = genai.GenerationConfig()
        options.max_new_tokens, options.ignore_eos, options.do_sample = new, True, False
        come: SimpleQueue[int | None] = SimpleQueue()
        row = np.array([ids], dtype=np.int64)
        inputs = genai.TokenizedInputs(ov.Tensor(row), ov.Tensor(np.ones_like(row)))

        def answer() -> None:
            self.pipe.generate(inputs, options, Put(come))
            come.put(None)

        thread = Thread(target=answer)  # tokens come by a callback
        thread.start()
        while (token := come.get()) is not None:
            yield token
        thread.join()

    def score(self, ids: list[int]) -> list[float]:
        if self.graph is None:
            self.graph = ov.Core().compile_model(self.folder / GRAPH, "CPU", self.settings)
        row = np.array([ids], dtype=np.int64)
        feeds = {"input_ids": row, "attention_mask": np.ones_like(row)}
        feeds |= {"position_ids": np.arange(len(ids))[None], "beam_idx": np.zeros(1, np.int32)}
        logits = self.graph.create_infer_request().infer(feeds)["logits"]
        return log_likelihoods(logits[0], ids)


class Put(genai.StreamerBase):
    def __init__(self, come: SimpleQueue[int | None]) -> None:
        super().__init__()
        self.come = come

    def write(self, token: int | list[int]) -> genai.StreamingStatus:
        for one in [token] if isinstance(token, int) else token:
            self.come.put(one)
        return genai.StreamingStatus.RUNNING

    def end(self) -> None:
        pass
