"""Tiny random decoders as Hugging Face folders, and their graphs as bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

CONTEXT = 128
"""Tokens of prompt and answer that a tiny decoder takes."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_SPECIAL = ("<|end|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>")

_SIZES: dict[str, Any] = {
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_size": 64,
    "head_dim": 16,
    "intermediate_size": 96,
    "max_position_embeddings": CONTEXT,
}
DECODERS: dict[str, dict[str, Any]] = {
    "gpt2": {"n_layer": 2, "n_head": 4, "n_embd": 64, "n_positions": CONTEXT},
    "llama": {},
    "mistral": {"sliding_window": 6},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2": {},
    "qwen3": {},
    "gemma3_text": {
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 24,
    },
}
"""Model type -> what its config says beside the common sizes: every kind of layer is there."""


def make_tiny_decoder(model_type: str, folder: Path, *, texts: list[str], **config: Any) -> Path:
    """A random decoder of 2 layers, its tokenizer (byte-level BPE of `texts`) and chat template."""
    import torch
    import transformers

    tokenizer = make_decoder_tokenizer(texts)
    tokenizer.save_pretrained(folder)
    end, pad = (tokenizer.convert_tokens_to_ids(t) for t in _SPECIAL[:2])
    wanted = DECODERS[model_type] if model_type == "gpt2" else _SIZES | DECODERS[model_type]
    wanted = wanted | {
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": end,
        "pad_token_id": pad,
    }
    torch.manual_seed(sum(map(ord, model_type)))
    made = transformers.AutoConfig.for_model(model_type, **(wanted | config))
    model = transformers.AutoModelForCausalLM.from_config(made, attn_implementation="eager").eval()
    with torch.no_grad():
        for weight in model.parameters():
            spread = 0.3 if weight.ndim > 1 else 0.1
            around_one = weight.ndim == 1 and bool((weight == 1).all())
            weight.copy_(torch.randn_like(weight) * spread + float(around_one))
    model.save_pretrained(folder)
    (folder / "generation_config.json").write_text(
        json.dumps({"eos_token_id": end, "pad_token_id": pad}), encoding="utf-8"
    )
    return folder


def make_decoder_tokenizer(texts: list[str]) -> Any:
    """A byte-level BPE of 330 tokens and a chat template; always the same for the same texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=CONTEXT,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        chat_template=CHAT_TEMPLATE,
    )


def empty_past(signature: Any, batch: int, capacity: int = 0) -> dict[str, Any]:
    """A cache of zeros for a decoder's graph."""
    return {
        t.name: np.zeros((batch, t.shape[1], capacity, t.shape[3]), np.float32)
        for t in signature.inputs
        if t.name.startswith("past_key_values.")
    }
