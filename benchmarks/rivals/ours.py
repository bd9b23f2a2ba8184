"""An edgetfm bundle, through the public API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from shared import bert_feeds, folder_bytes, versions

import edgetfm


class Rival:
    def __init__(self, request: dict[str, Any]) -> None:
        bundle = Path(request["bundle"])
        self.model = edgetfm.load(bundle, threads=1)
        self.versions = {"edgetfm": edgetfm.__version__, **versions("onnxruntime")}
        self.bytes = folder_bytes(bundle)

    def run(self, ids: np.ndarray) -> np.ndarray:
        return self.model.run(bert_feeds(ids))["last_hidden_state"][0]
