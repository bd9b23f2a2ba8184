"""Texts: token ids and a mask, up to the positions that a model has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from edgetfm import assets
from edgetfm.errors import SourceError
from edgetfm.layers.pooling import normalize, pool
from edgetfm.signature import TensorSpec
from edgetfm.sources.adapter._sense import AdapterConfig, SenseRow, parameters

_AXES = ("batch", "sequence")


def _facts(model: Any, _folder: Path, pooling: assets.Pooling) -> dict[str, Any]:
    return {
        "longest": _longest(model),
        "vocabulary": _vocabulary(model),
        "pooling": pooling.how,
        "normalize": pooling.normalize,
    }


def _inputs(model: Any, folder: Path, config: AdapterConfig) -> tuple[TensorSpec, ...]:
    """Token types only where the model tells them apart and its tokenizer makes them."""
    names = ("input_ids", "attention_mask", "token_type_ids")
    types = getattr(text_config(model), "type_vocab_size", 0)
    made = assets.read_json(folder / "tokenizer_config.json").get("model_input_names") or names
    if model.config.model_type in _ALWAYS_FULL:
        full = ("batch", config.longest)
        return tuple(TensorSpec(name, "int64", full) for name in names[:2] if name in made)
    typed = "token_type_ids" in parameters(model) and isinstance(types, int) and types > 1
    typed = typed and "token_type_ids" in made
    return tuple(TensorSpec(name, "int64", _AXES) for name in names[: 3 if typed else 2])


def _vocabulary(model: Any) -> int:
    """The rows of the table that ids are looked up in; any id is taken where there is none."""
    try:
        table = model.get_input_embeddings()
    except NotImplementedError:
        return 1 << 31
    known = getattr(text_config(model), "vocab_size", 1 << 31)
    return int(getattr(table, "num_embeddings", known))


def text_config(model: Any) -> Any:
    """The part of the config that is about texts; the whole one of a model of texts alone."""
    return getattr(model.config, "text_config", None) or model.config


_ALWAYS_FULL = ("siglip", "siglip2")
"""Models that look at padding, and were trained on texts padded to their longest."""

_UNLIMITED = 512
"""Tokens, for a model without a table of positions whose tokenizer sets no limit either."""


def _longest(model: Any) -> int:
    """The most tokens that a model has positions for."""
    for name, module in model.named_modules():
        table = name.rpartition(".")[2] == "position_embeddings" and isinstance(
            module, nn.Embedding
        )
        if table and module.padding_idx is not None:  # counted from behind the padding's
            return int(module.num_embeddings - module.padding_idx - 1)
    known = getattr(text_config(model), "max_position_embeddings", None)
    return known if isinstance(known, int) and known > 0 else _UNLIMITED


def _refuse(model: Any) -> None:
    kind = type(model).__name__
    if getattr(model.config, "attention_type", None) == "block_sparse":
        raise SourceError(
            f"{kind} has attention_type block_sparse, which long texts alone use and no graph can "
            "switch on: write original_full into config.json to export it with full attention"
        )
    if "attention_mask" not in parameters(model):
        raise SourceError(
            f"{kind} takes no attention_mask: what it answers to a text depends on the padding"
        )


def _sentence(
    _model: Any, answer: Any, inputs: Mapping[str, Tensor], pooling: assets.Pooling
) -> dict[str, Tensor]:
    """Hidden states [batch, sequence, width], and a vector [batch, width] pooled of them."""
    hidden: Tensor = answer["last_hidden_state"]
    vector = pool(hidden, inputs["attention_mask"], pooling.how)
    vector = normalize(vector) if pooling.normalize else vector
    return {"last_hidden_state": hidden, "sentence_embedding": vector}


TEXT = SenseRow(
    main="input_ids",
    body="feature-extraction",
    facts=_facts,
    inputs=_inputs,
    refuse=_refuse,
    answers={"feature-extraction": _sentence},
)
