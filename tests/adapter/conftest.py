"""Tiny random models of any type, made from a row of model_types.toml."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.adapter.rows import AUTO, model_types

LABELS = ("bad", "fair", "good", "excellent")

_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}


@pytest.fixture(scope="session")
def tiny_of_type(tiny_tokenizer: Callable[[str], Any]) -> Callable[[str, Path], Path]:
    """tiny_of_type(model_type, folder): a random tiny model of its row as a Hugging Face folder."""

    def make(model_type: str, folder: Path) -> Path:
        row = model_types()[model_type]
        wanted = _SIZES if row.get("sizes", True) else {}
        wanted = wanted | _inputs(row, tiny_tokenizer, folder)
        if row["task"].endswith("-classification"):
            wanted["id2label"] = dict(enumerate(LABELS))
        _save(model_type, row["task"], folder, _known(model_type, wanted) | row.get("config", {}))
        return folder

    return make


def _inputs(row: dict[str, Any], tokenizer: Callable[[str], Any], folder: Path) -> dict[str, Any]:
    """A tokenizer or an image processor in the folder, and what the config says of it."""
    folder.mkdir(parents=True)
    if row["task"].startswith("image"):
        if "processor" in row:
            _save_processor(folder, {"image_processor_type": row["processor"]} | row["pixels"])
        return {}
    made = tokenizer(row.get("tokens", "bert"))
    made.save_pretrained(folder)
    # RoBERTa's kin count positions from behind the padding's.
    return {
        "vocab_size": len(made),
        "max_position_embeddings": made.model_max_length + 2 * ("tokens" in row),
        "pad_token_id": made.pad_token_id,
    }


def _save_processor(folder: Path, settings: dict[str, Any]) -> None:
    """Saved by transformers with all that its class takes for granted."""
    from transformers import AutoImageProcessor

    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    AutoImageProcessor.from_pretrained(folder, backend="pil").save_pretrained(folder)


def _known(model_type: str, values: dict[str, Any]) -> dict[str, Any]:
    """The values that a config of this type has a field for."""
    from transformers import AutoConfig

    default = AutoConfig.for_model(model_type)
    return {k: v for k, v in values.items() if k == "id2label" or hasattr(default, k)}


def _save(model_type: str, task: str, folder: Path, values: dict[str, Any]) -> None:
    import torch
    import transformers

    torch.manual_seed(sum(map(ord, model_type + task)))
    config = transformers.AutoConfig.for_model(model_type, **values)
    auto = getattr(transformers, AUTO[task])
    model = auto.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            is_scale = weight.ndim == 1 and name.endswith("weight")
            spread = 0.1 if weight.ndim == 1 else min(0.3, weight[0].numel() ** -0.5)
            weight.copy_(torch.randn_like(weight) * spread + float(is_scale))
    model.save_pretrained(folder)
