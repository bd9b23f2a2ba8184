"""How much memory an export takes beside the weights' file."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.memory import watched

LIMIT = 2.5
"""Anonymous memory above the imports, over the size of the weights in float32."""

IMPORTS = """
import gc, pathlib
import onnx, onnxruntime, onnxscript, torch, transformers
import numpy as np
from edgetfm.export import to_onnx
from edgetfm.graphs import save_graph
from edgetfm.sources import open_source
"""

MEASURE = """
source = open_source(sys.argv[1])
oracle = source.reference()
ids = np.ones((2, 5), np.int64)
oracle({"input_ids": ids, "attention_mask": ids, "token_type_ids": ids * 0})
del oracle
gc.collect()
graph = to_onnx(source.module(), source.signature.inputs, source.signature.outputs)
save_graph(graph, pathlib.Path(sys.argv[1]) / "out" / "model.onnx")
"""


def random_bert(folder: Path, layers: int, width: int, vocabulary: int) -> int:
    """Write a random BERT and return the bytes of its weights."""
    config = {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 512,
    }
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {
        "embeddings.word_embeddings.weight": (vocabulary, width),
        "embeddings.position_embeddings.weight": (512, width),
        "embeddings.token_type_embeddings.weight": (2, width),
    }
    linears = {
        "attention.self.query": (width, width),
        "attention.self.key": (width, width),
        "attention.self.value": (width, width),
        "attention.output.dense": (width, width),
        "intermediate.dense": (4 * width, width),
        "output.dense": (width, 4 * width),
    }
    for layer in range(layers):
        for name, shape in linears.items():
            stem = f"encoder.layer.{layer}.{name}"
            shapes |= {f"{stem}.weight": shape, f"{stem}.bias": shape[:1]}
    norms = ["embeddings.LayerNorm"]
    for layer in range(layers):
        norms += [f"encoder.layer.{layer}.{n}.LayerNorm" for n in ("attention.output", "output")]
    shapes |= {f"{n}.{kind}": (width,) for n in norms for kind in ("weight", "bias")}
    weights = {name: torch.randn(shape) * 0.02 for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    return sum(w.nbytes for w in weights.values())


def test_anonymous_memory_stays_below_the_limit(tmp_path: Path) -> None:
    """Of 150 MB; a gigabyte is exported by tests/test_memory.py."""
    weights = random_bert(tmp_path, layers=2, width=768, vocabulary=30522)
    peak = watched(IMPORTS, MEASURE, tmp_path)["peak"]
    assert peak <= LIMIT * weights, f"{peak / weights:.2f} of the weights"
