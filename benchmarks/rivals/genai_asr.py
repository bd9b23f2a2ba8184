"""onnxruntime-genai on the folder of its own builder."""

from __future__ import annotations

import io
import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as og
from shared import folder_bytes, versions

PROMPT = "<|startoftranscript|><|notimestamps|>"


class Rival:
    def __init__(self, request: dict[str, Any]) -> None:
        folder = Path(request["model"])
        config = og.Config(str(folder))
        options = {"session_options": {"intra_op_num_threads": request["threads"]}}
        config.overlay(json.dumps({"model": {"encoder": options, "decoder": options}}))
        self.model = og.Model(config)
        self.processor = self.model.create_multimodal_processor()
        self.versions = versions("onnxruntime-genai", "onnxruntime")
        self.bytes = folder_bytes(folder)

    def hear(self, samples: np.ndarray) -> str:
        audios = og.Audios.open_bytes(as_file(samples))
        inputs = self.processor([PROMPT], audios=audios)
        params = og.GeneratorParams(self.model)
        params.set_search_options(do_sample=False, num_beams=1, max_length=448, batch_size=1)
        generator = og.Generator(self.model, params)
        generator.set_inputs(inputs)
        while not generator.is_done():
            generator.generate_next_token()
        return str(self.processor.decode(generator.get_sequence(0)))


def as_file(samples: np.ndarray) -> bytes:
    """Samples as the file that it wants."""
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes((samples * 32768.0).astype("<i2").tobytes())
    return made.getvalue()
