"""OpenVINO's own pipeline for Whisper, on a folder that Optimum Intel exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino_genai as genai
from shared import folder_bytes, versions


class Rival:
    def __init__(self, request: dict[str, Any]) -> None:
        folder = Path(request["model"])
        settings = {
            "INFERENCE_NUM_THREADS": request["threads"],
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.pipe = genai.WhisperPipeline(folder, "CPU", **settings)
        self.versions = versions("openvino", "openvino-genai", "optimum-intel", "nncf")
        self.bytes = folder_bytes(folder)

    def hear(self, samples: np.ndarray) -> str:
        found = self.pipe.generate(samples.tolist(), max_new_tokens=224, return_timestamps=False)
        return str(found.texts[0])
