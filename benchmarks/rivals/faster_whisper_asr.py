"""faster-whisper: CTranslate2 in int8, greedily and without timestamps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper import WhisperModel
from shared import folder_bytes, versions


class Rival:
    def __init__(self, request: dict[str, Any]) -> None:
        folder = Path(request["model"])
        self.model = WhisperModel(
            str(folder), device="cpu", compute_type="int8", cpu_threads=request["threads"]
        )
        self.versions = versions("faster-whisper", "ctranslate2")
        self.bytes = folder_bytes(folder)

    def hear(self, samples: np.ndarray) -> str:
        segments, _ = self.model.transcribe(
            samples,
            language="en",
            beam_size=1,
            temperature=0.0,
            without_timestamps=True,
            condition_on_previous_text=False,
        )
        return "".join(segment.text for segment in segments)
