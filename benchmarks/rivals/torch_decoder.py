"""transformers' own greedy loop over a model in float32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from shared import folder_bytes, log_likelihoods, versions
from transformers import AutoModelForCausalLM


class Rival:
    def __init__(self, request: dict[str, Any]) -> None:
        folder = Path(request["model"])
        torch.set_num_threads(request["threads"])
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.versions = versions("torch", "transformers")
        self.bytes = folder_bytes(folder)

    @torch.inference_mode()
    def write(self, ids: list[int], new: int) -> Iterator[int]:
        step, cache = torch.tensor([ids]), None
        for _ in range(new):
            found = self.model(step, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = found.past_key_values
            step = found.logits[:, -1:].argmax(-1)
            yield int(step)

    @torch.inference_mode()
    def score(self, ids: list[int]) -> list[float]:
        return log_likelihoods(self.model(torch.tensor([ids])).logits[0].numpy(), ids)
