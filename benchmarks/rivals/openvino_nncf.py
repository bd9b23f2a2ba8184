"""OpenVINO with NNCF's int8 for transformers, calibrated as its documentation shows."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov
import torch
from transformers import AutoModel


class Rival:
    def __init__(self, request: dict[str, Any]) -> None:
        model = AutoModel.from_pretrained(request["source"]).eval()
        # Eager attention: the fused one is traced as an operator NNCF leaves alone.
        model.set_attn_implementation("eager")
        sample = [np.asarray([ids], dtype=np.int64) for ids in request["calibration"]]
        example = {name: torch.from_numpy(array) for name, array in feeds(sample[0]).items()}
        graph = ov.convert_model(model, example_input=example)
        graph = nncf.quantize(
            graph,
            nncf.Dataset(sample, feeds),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(sample),
        )
        folder = Path(request["folder"])
        ov.save_model(graph, folder / "model.xml", compress_to_fp16=False)
        self.compiled = ov.Core().compile_model(
            folder / "model.xml",
            "CPU",
            {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"},
        )
        precision = self.compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.versions = {name: version(name) for name in ("openvino", "nncf", "torch")}
        self.versions["rest of the graph in"] = precision
        self.bytes = sum(file.stat().st_size for file in folder.iterdir())

    def run(self, ids: np.ndarray) -> np.ndarray:
        return self.compiled(feeds(ids))[0][0]


def feeds(ids: np.ndarray) -> dict[str, np.ndarray]:
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
    }
