"""Exporting takes little more memory than the weights, also when they are a gigabyte."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.memory import watched

LIMIT = 2.5
"""Anonymous memory above the imports, in units of the fp32 weights."""

SAMPLES = 24
"""Texts that calibrate and judge: what many of them take, tests/quantize/test_memory.py tells."""

IMPORTS = """
import onnx, onnx_ir, onnxruntime, torch, torch.onnx, transformers
from edgetfm import export_model
"""

EXPORT = """
options = {"quantize": "int8", "max_drop": "cosine:0.5", "samples": int(sys.argv[3])}
result = export_model(sys.argv[1], sys.argv[2], **options)
found["variant"] = result.variant
"""


def large_bert(folder: Path, tokenizer) -> Path:
    """BERT of the usual width with transformers' own random weights, 1.0 GB."""
    import transformers

    tokenizer.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=20,
        num_attention_heads=16,
        max_position_embeddings=tokenizer.model_max_length,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
def test_a_model_of_a_gigabyte_exports_in_two_and_a_half_times_its_weights(
    tiny_tokenizer, tmp_path: Path
) -> None:
    """To int8, which does all that an export to fp32 does, and then more."""
    source = large_bert(tmp_path / "source", tiny_tokenizer("bert"))
    weights = (source / "model.safetensors").stat().st_size
    assert weights > 1_000_000_000
    measured = watched(IMPORTS, EXPORT, source, tmp_path / "out", SAMPLES)
    assert measured["variant"] == "int8"
    assert measured["peak"] <= LIMIT * weights, f"{measured['peak'] / weights:.2f}x the weights"
