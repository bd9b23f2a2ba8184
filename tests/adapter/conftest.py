"""Tiny random models of any type, made from a row of model_types.toml."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgetfm.tasks import TASKS
from tests.adapter.rows import AUTO, model_types
from tests.speech import WAVE, save_letters

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
        task = TASKS[row["task"]]
        wanted = _SIZES if row.get("sizes", True) else {}
        if "extractor" in row:
            wanted = wanted | WAVE
        folder.mkdir(parents=True)
        if "image" in task.senses and "processor" in row:
            _save_processor(folder, {"image_processor_type": row["processor"]} | row["pixels"])
        if "extractor" in row:
            _save_extractor(folder, row)
        words = _tokenizer(row, tiny_tokenizer, folder) if "text" in task.senses else {}
        labels = {"id2label": dict(enumerate(LABELS))} if task.labelled else {}
        name = row.get("type", model_type)
        values = _known(name, wanted | words | labels) | row.get("config", {})
        if len(task.senses) > 1:
            values = _in_parts(name, values, _SIZES | words)
        _save(name, row["task"], folder, values)
        return folder

    return make


def _tokenizer(
    row: dict[str, Any], tokenizer: Callable[[str], Any], folder: Path
) -> dict[str, Any]:
    """A tokenizer in the folder, and what the config says of it."""
    made = tokenizer(row.get("tokens", "bert"))
    made.save_pretrained(folder)
    if "made" in row:
        path = folder / "tokenizer_config.json"
        path.write_text(
            json.dumps(json.loads(path.read_text()) | {"model_input_names": row["made"]})
        )
    # RoBERTa's kin count positions from behind the padding's.
    return {
        "vocab_size": len(made),
        "max_position_embeddings": made.model_max_length + 2 * ("tokens" in row),
        "pad_token_id": made.pad_token_id,
        "bos_token_id": made.cls_token_id,
        "eos_token_id": made.sep_token_id,
    }


def _in_parts(model_type: str, values: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """The values for a model of several senses: some are in a config of each sense."""
    from transformers import AutoConfig

    default = AutoConfig.for_model(model_type)
    parts = {}
    for name in ("text_config", "vision_config"):
        part = getattr(default, name)
        known = {k: v for k, v in wanted.items() if hasattr(part, k)}
        parts[name] = known | values.get(name, {})
    return values | parts


def _save_processor(folder: Path, settings: dict[str, Any]) -> None:
    """Saved by transformers with all that its class takes for granted."""
    from transformers import AutoImageProcessor

    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    AutoImageProcessor.from_pretrained(folder, backend="pil").save_pretrained(folder)


def _save_extractor(folder: Path, row: dict[str, Any]) -> None:
    """A feature extractor, and a tokenizer of letters where the task writes."""
    import transformers

    getattr(transformers, row["extractor"])(**row.get("sound", {})).save_pretrained(folder)
    if row["task"] == "automatic-speech-recognition":
        save_letters(folder)


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
            if weight.ndim == 0:  # a temperature, or a bias of all scores
                continue
            spread = 0.1 if weight.ndim == 1 else min(0.3, weight[0].numel() ** -0.5)
            weight.copy_(torch.randn_like(weight) * spread + float(is_scale))
    model.save_pretrained(folder)
