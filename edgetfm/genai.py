"""How onnxruntime-genai runs a bundle's decoder: genai_config.json.

https://onnxruntime.ai/docs/genai/reference/config.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgetfm.signature import PAST, PRESENT

if TYPE_CHECKING:
    from edgetfm.manifest import Manifest

GENAI_CONFIG = "genai_config.json"

_TYPES = {"gpt2": "decoder", "mixtral": "decoder"}
"""Model types that are unknown there, or mean another graph, with one tensor for keys and values;
`decoder` is any graph with the usual names."""


def genai_config(config: Mapping[str, Any], manifest: Manifest) -> dict[str, Any] | None:
    """What genai_config.json says of a decoder's default variant, None of other models.

    config: the content of config.json, for the model type.
    """
    known = manifest.generation
    if not known or "kv_heads" not in known:  # no decoder, or one that has a memory for a cache
        return None
    component = manifest.components["model"]
    eos = known["eos"] or [known["vocabulary"]]  # an id that no token has: it ends nowhere
    model_type = str(config.get("model_type"))
    decoder = {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": component.variants[manifest.default].file,
        "head_size": known["head_size"],
        "hidden_size": known["width"],
        "num_attention_heads": known["heads"],
        "num_hidden_layers": known["layers"],
        "num_key_value_heads": known["kv_heads"],
        "inputs": {
            "input_ids": "input_ids",
            "attention_mask": "attention_mask",
            "past_key_names": f"{PAST}%d.key",
            "past_value_names": f"{PAST}%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": f"{PRESENT}%d.key",
            "present_value_names": f"{PRESENT}%d.value",
        },
    }
    return {
        "model": {
            "type": _TYPES.get(model_type, model_type),
            "vocab_size": known["vocabulary"],
            "context_length": known["context"],
            "bos_token_id": eos[0] if known["bos"] is None else known["bos"],
            "eos_token_id": eos,
            "pad_token_id": eos[0] if known["pad"] is None else known["pad"],
            "decoder": decoder,
        },
        "search": {
            "max_length": known["context"],
            "min_length": 0,
            "do_sample": False,
            "num_beams": 1,
            "num_return_sequences": 1,
            "early_stopping": True,
            "repetition_penalty": 1.0,
            "temperature": 1.0,
            "top_k": 1,
            "top_p": 1.0,
            "past_present_share_buffer": True,
        },
    }
