"""A Llama of billions of random parameters becomes int4: what memory that takes, and that it runs.

    python benchmarks/large_decoder.py --size 3b --folder SCRATCH [--whole]

The checkpoint is written to the folder if it is not there (bf16, 2 bytes a parameter). What counts
is anonymous memory above that of the imports: mapped files are the system's to drop. --whole is
the export as the command line does it, every answer compared; without, the graph alone is made.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

SIZES: dict[str, dict[str, int]] = {
    "0.02b": {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 4,
              "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 8192},
    "0.2b": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 8,
                 "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 32000},
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
               "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256},
    "3b": {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28,
               "num_attention_heads": 24, "num_key_value_heads": 8, "vocab_size": 128256},
}  # fmt: skip
"""The sizes of Llama 3.2, whose embedding is its head too, and small ones."""

FIXED: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu",
    "rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "rope_theta": 500000.0,
    "tie_word_embeddings": True, "dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def shapes(c: dict[str, int]) -> dict[str, dict[str, tuple[int, ...]]]:
    """File name -> weight -> shape: a file a layer."""
    width, inner = c["hidden_size"], c["intermediate_size"]
    kept = width // c["num_attention_heads"] * c["num_key_value_heads"]
    files: dict[str, dict[str, tuple[int, ...]]] = {
        "ends": {
            "model.embed_tokens.weight": (c["vocab_size"], width),
            "model.norm.weight": (width,),
        }
    }
    for i in range(c["num_hidden_layers"]):
        files[f"layer-{i}"] = {
            f"model.layers.{i}.{name}.weight": shape
            for name, shape in {
                "input_layernorm": (width,),
                "post_attention_layernorm": (width,),
                "self_attn.q_proj": (width, width),
                "self_attn.k_proj": (kept, width),
                "self_attn.v_proj": (kept, width),
                "self_attn.o_proj": (width, width),
                "mlp.gate_proj": (inner, width),
                "mlp.up_proj": (inner, width),
                "mlp.down_proj": (width, inner),
            }.items()
        }
    return {f"{name}.safetensors": tensors for name, tensors in files.items()}


BLOCK = (1 << 24) + 43
"""Random numbers that all weights are cut from: no size of rows divides it, so none repeats."""


def write_checkpoint(folder: Path, size: str) -> int:
    """A checkpoint of random weights in bfloat16; returns how many parameters it has."""
    from ml_dtypes import bfloat16

    files, total = shapes(SIZES[size]), 0
    places: dict[str, str] = {}
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.random.default_rng(0).standard_normal(BLOCK, np.float32)
    blocks: dict[int, np.ndarray[Any, Any]] = {}
    for number, (name, tensors) in enumerate(files.items()):
        made = {}
        for place, (weight, shape) in enumerate(tensors.items()):
            total += int(np.prod(shape))
            if (folder / name).exists():
                continue
            if len(shape) == 1:
                made[weight] = np.ones(shape, bfloat16)
                continue
            if shape[1] not in blocks:
                blocks[shape[1]] = (normal * np.float32(shape[1] ** -0.5)).astype(bfloat16)
            turned = np.roll(blocks[shape[1]], 100_003 * (number * len(tensors) + place))
            made[weight] = np.resize(turned, shape)
        places |= dict.fromkeys(tensors, name)
        if made:
            save_file(made, folder / name)
    index = {"metadata": {"total_size": 2 * total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({**FIXED, **SIZES[size]}))
    return total


def write_tokenizer(folder: Path) -> None:
    """A byte-level BPE of the texts that ship with edgetfm; the table has rows to spare."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from edgetfm.quantize.calibration import read_calibration

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = (str(text) for text in read_calibration(None, "text").items)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    said = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 4096}
    said |= {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))


class Peak:
    """The most anonymous memory that this process has while it is entered, above the start."""

    def __enter__(self) -> Peak:
        self.start = self.most = self._recent = _anonymous()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def gained(self) -> dict[str, float]:
        """Bytes, as they stand in what is measured."""
        return {"anonymous_bytes": self.most - self.start, "with_imports": self.most}

    def recent(self) -> int:
        """The most bytes since this was asked before."""
        gained, self._recent = self._recent - self.start, _anonymous()
        return gained

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            now = _anonymous()
            self.most, self._recent = max(self.most, now), max(self._recent, now)


def _anonymous() -> int:
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def export_int4(folder: Path, output: Path, block_size: int) -> dict[str, float]:
    """Write OUTPUT, the int4 graph of a checkpoint; seconds, and bytes of anonymous memory."""
    from edgetfm.export.streamed import to_onnx_streamed
    from edgetfm.graphs import save_graph
    from edgetfm.quantize import RECIPES, quantize_graph
    from edgetfm.sources import open_source

    recipe = replace(RECIPES["int4"], rounding="nearest", table_bits=4, block_size=block_size)
    started = time.perf_counter()
    with Peak() as peak:
        opened = open_source(folder)
        skeleton, weights = opened.streamed()
        signature = opened.signature
        graph = to_onnx_streamed(skeleton, weights, signature.inputs, signature.outputs)
        small, _ = quantize_graph(graph, recipe, [])
        output.parent.mkdir(parents=True, exist_ok=True)
        save_graph(small, output)
    return {"seconds": time.perf_counter() - started, **peak.gained}


def export_whole(folder: Path, output: Path, block_size: int) -> dict[str, float]:
    """The same by the command's own work: proven in float, made smaller, proven again.

    Random weights say nothing of what rounding costs a model: the budget binds nothing here.
    """
    import onnxruntime  # noqa: F401  (what is imported is no part of what is measured)
    import torch.onnx  # noqa: F401
    from transformers import LlamaForCausalLM  # noqa: F401

    from edgetfm import export_model
    from edgetfm.quantize import RECIPES

    recipe = replace(RECIPES["int4"], rounding="nearest", table_bits=4, block_size=block_size)
    kept = folder.parent / f"{folder.name}-recipe.json"
    kept.write_text(json.dumps(recipe.to_json()))
    started = time.perf_counter()
    with Peak() as peak:

        def said(what: str, done: int, _steps: int) -> None:
            if done == 0:
                spent = time.perf_counter() - started
                print(f"  {spent:5.0f} s, {peak.recent() / 1e9:.2f} GB until: {what}", flush=True)

        made = export_model(
            folder, output, recipe=kept, max_drop="perplexity:1000", force=True, progress=said
        )
    print(f"  {len(made.ledger.rungs)} comparisons hold: {made.ledger.passed}")
    return {"seconds": time.perf_counter() - started, **peak.gained}


def write_tokens(graph: Path, size: str, count: int) -> list[int]:
    """The first greedy tokens that a graph writes after a prompt of three."""
    from edgetfm.runtime.session import make_session

    c = SIZES[size]
    head = c["hidden_size"] // c["num_attention_heads"]
    session = make_session(graph)
    names = [t.name for t in session.signature.inputs if t.name.startswith("past_key_values")]
    empty = np.zeros((1, c["num_key_value_heads"], 0, head), np.float32)
    cache = dict.fromkeys(names, empty)
    tokens, step = [1, 5, 9], np.array([[1, 5, 9]], np.int64)
    for _ in range(count):
        mask = np.ones((1, len(tokens)), np.int64)
        feeds = {"input_ids": step, "attention_mask": mask, **cache}
        answer = session.run(feeds)
        cache = {n: answer[n.replace("past_key_values", "present")] for n in names}
        step = answer["logits"][:, -1].argmax(axis=-1)[:, None]
        tokens.append(int(step[0, 0]))
    return tokens[3:]


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="3b")
    parser.add_argument("--folder", type=Path, required=True, help="where the files go")
    parser.add_argument("--block-size", type=int, default=32)
    parser.add_argument("--whole", action="store_true", help="prove every answer too")
    given = parser.parse_args()
    checkpoint, bundle = given.folder / given.size, given.folder / f"{given.size}-int4"
    parameters = write_checkpoint(checkpoint, given.size)
    write_tokenizer(checkpoint)
    if given.whole:
        output = bundle / "onnx/model_q4.onnx"
        found = export_whole(checkpoint, bundle, given.block_size)
    else:
        output = bundle / "model.onnx"
        found = export_int4(checkpoint, output, given.block_size)
    written = sum(file.stat().st_size for file in output.parent.iterdir())
    tokens = write_tokens(output, given.size, 4)
    print(
        f"{parameters / 1e9:.2f} billion parameters: {written / 1e9:.2f} GB of int4 in "
        f"{found['seconds']:.0f} s with {found['anonymous_bytes'] / 1e9:.2f} GB of anonymous "
        f"memory above the imports, {found['with_imports'] / 1e9:.2f} GB with them; "
        f"it writes {tokens}"
    )


if __name__ == "__main__":
    main()
