"""PyTorch as it comes: the answer all others are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import bert_feeds, versions
from transformers import AutoModel


class Rival:
    def __init__(self, request: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        source = Path(request["source"])
        self.model = AutoModel.from_pretrained(source).eval()
        self.versions = versions("torch", "transformers")
        self.bytes = sum(file.stat().st_size for file in source.glob("*.safetensors"))

    @torch.inference_mode()
    def run(self, ids: np.ndarray) -> np.ndarray:
        feeds = {name: torch.from_numpy(array) for name, array in bert_feeds(ids).items()}
        return self.model(**feeds).last_hidden_state[0].numpy()
