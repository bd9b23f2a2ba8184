"""onnxruntime-genai: its own builder's folder, or any folder with a genai_config.json."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime_genai as og
from shared import folder_bytes, log_likelihoods, versions


class Rival:
    def __init__(self, request: dict[str, Any]) -> None:
        folder = Path(request["model"])
        config = og.Config(str(folder))
        options = {"intra_op_num_threads": request["threads"]}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self.model = og.Model(config)
        self.versions = versions("onnxruntime-genai", "onnxruntime")
        self.bytes = folder_bytes(folder)

    def write(self, ids: list[int], new: int) -> Iterator[int]:
        generator = self.begun(ids, len(ids) + new)
        for _ in range(new):
            generator.generate_next_token()
            yield generator.get_next_tokens()[0]

    def score(self, ids: list[int]) -> list[float]:
        generator = self.begun(ids, len(ids) + 1)
        return log_likelihoods(generator.get_output("logits")[0], ids)

    def begun(self, ids: list[int], longest: int) -> og.Generator:
        params = og.GeneratorParams(self.model)
        params.set_search_options(do_sample=False, max_length=longest, min_length=longest)
        generator = og.Generator(self.model, params)
        generator.append_tokens(ids)
        return generator
