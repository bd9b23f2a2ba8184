"""Exporting takes little more memory than the weights, also when they are a gigabyte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 2.5
"""Anonymous memory above the imports, in units of the fp32 weights."""

EXPORT = """
import json, os, sys, threading, time
import onnx, onnx_ir, onnxruntime, torch, torch.onnx, transformers  # noqa: imports are not counted
from edgetfm import export_model
from edgetfm.runtime.memory import anonymous_memory

start, peak, done = anonymous_memory(os.getpid()), 0, threading.Event()

def watch():
    global peak
    while not done.wait(0.02):
        peak = max(peak, anonymous_memory(os.getpid()))

watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
result = export_model(sys.argv[1], sys.argv[2], quantize=sys.argv[3] or None, max_drop="cosine:0.5")
done.set()
watcher.join()
print(json.dumps({"peak": peak - start, "variant": result.variant}))
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
@pytest.mark.parametrize("quantize", ["", "int8"])
def test_a_model_of_a_gigabyte_exports_in_two_and_a_half_times_its_weights(
    tiny_tokenizer, tmp_path: Path, quantize: str
) -> None:
    source = large_bert(tmp_path / "source", tiny_tokenizer("bert"))
    weights = (source / "model.safetensors").stat().st_size
    assert weights > 1_000_000_000
    run = subprocess.run(
        [sys.executable, "-c", EXPORT, source, tmp_path / "out", quantize],
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    measured = json.loads(run.stdout.splitlines()[-1])
    assert measured["peak"] <= LIMIT * weights, f"{measured['peak'] / weights:.2f}x the weights"
