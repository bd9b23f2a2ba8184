"""An edgetfm bundle that writes down speech, through the pipeline that `edgetfm run` uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from shared import folder_bytes, versions

import edgetfm


class Rival:
    def __init__(self, request: dict[str, Any]) -> None:
        bundle = Path(request["model"])
        self.pipe = edgetfm.pipeline(bundle, threads=request["threads"])
        self.versions = {"edgetfm": edgetfm.__version__, **versions("onnxruntime")}
        self.bytes = folder_bytes(bundle / "onnx")

    def hear(self, samples: np.ndarray) -> str:
        return str(self.pipe(samples)["text"])
