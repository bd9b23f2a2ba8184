"""transformers' own greedy transcription by a model in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import folder_bytes, versions
from transformers import WhisperForConditionalGeneration, WhisperProcessor


class Rival:
    def __init__(self, request: dict[str, Any]) -> None:
        folder = Path(request["model"])
        torch.set_num_threads(request["threads"])
        kind = WhisperForConditionalGeneration
        self.model = kind.from_pretrained(folder, dtype=torch.float32).eval()
        self.processor = WhisperProcessor.from_pretrained(folder)
        self.versions = versions("torch", "transformers")
        self.bytes = folder_bytes(folder)

    @torch.inference_mode()
    def hear(self, samples: np.ndarray) -> str:
        found = self.processor(samples, sampling_rate=16_000, return_tensors="pt")
        tokens = self.model.generate(found.input_features, num_beams=1, do_sample=False)
        return str(self.processor.batch_decode(tokens, skip_special_tokens=True)[0])
