"""A tiny random decoder with a memory, as a checkpoint folder of ours."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.decoders import make_decoder_tokenizer


def make_tiny_memory(folder: Path, *, texts: list[str], **config: Any) -> Path:
    """Two layers that remember 24 tokens of 16 numbers each, and a byte-level tokenizer."""
    import torch
    from safetensors.torch import save_file

    from edgetfm.models.memory import FAMILY

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = make_decoder_tokenizer(texts)
    tokenizer.model_max_length = int(1e30)
    tokenizer.save_pretrained(folder)
    sizes = {"width": 64, "layers": 2, "heads": 4, "inner": 96, "memory": 24}
    made = FAMILY.config(vocabulary=len(tokenizer), **(sizes | config))
    torch.manual_seed(0)
    module = FAMILY.build(made, "text-generation")
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1 and name != "distances":
            torch.nn.init.normal_(parameter, std=0.3)
    save_file(dict(module.state_dict()), folder / "model.safetensors")
    head = {"family": "memory", "task": "text-generation", "schema": 1, "version": "0"}
    (folder / "config.json").write_text(
        json.dumps({"edgetfm": head, "config": asdict(made), "labels": []}), encoding="utf-8"
    )
    end, pad = (tokenizer.convert_tokens_to_ids(t) for t in ("<|end|>", "<|pad|>"))
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": end, "pad_token_id": pad}), encoding="utf-8"
    )
    return folder
