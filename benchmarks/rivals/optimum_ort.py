"""Optimum's exporter, and its int8 preset, run by plain ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig
from shared import bert_feeds, folder_bytes, one_thread_session, versions


class Rival:
    def __init__(self, request: dict[str, Any]) -> None:
        folder = Path(request["folder"])
        exported = folder.with_name("export")
        ORTModelForFeatureExtraction.from_pretrained(
            request["source"], export=True
        ).save_pretrained(exported)
        if request["precision"] == "int8":
            preset = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=False)
            ORTQuantizer.from_pretrained(exported).quantize(
                save_dir=folder, quantization_config=preset
            )
        else:
            folder = exported
        (graph,) = folder.glob("*.onnx")
        self.session = one_thread_session(graph)
        self.inputs = {value.name for value in self.session.get_inputs()}
        self.versions = versions("optimum-onnx", "optimum", "onnxruntime", "torch", "transformers")
        self.bytes = folder_bytes(folder)

    def run(self, ids: np.ndarray) -> np.ndarray:
        feeds = {name: array for name, array in bert_feeds(ids).items() if name in self.inputs}
        return self.session.run(["last_hidden_state"], feeds)[0][0]
