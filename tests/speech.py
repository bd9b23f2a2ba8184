"""Tiny random models of speech, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LETTERS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")
"""What they write with."""

WAVE = {
    "conv_dim": [16] * 3,
    "conv_kernel": [10, 8, 4],
    "conv_stride": [5, 8, 8],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "vocab_size": len(LETTERS),
}
"""Of models that take a wave: a frame for 320 samples, as in the large ones, by fewer layers."""


def save_letters(folder: Path) -> None:
    """The tokenizer of LETTERS."""
    import transformers

    file = folder / "letters.json"
    file.write_text(json.dumps({letter: i for i, letter in enumerate(LETTERS)}))
    transformers.Wav2Vec2CTCTokenizer(str(file)).save_pretrained(folder)
    file.unlink()


def make_tiny_speech(folder: Path, **config: Any) -> Path:
    """A wav2vec2 with layer norms that writes letters, as a Hugging Face folder; always the same.

    config: overrides single values.
    """
    import torch
    import transformers

    values: dict[str, Any] = WAVE | {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "feat_extract_norm": "layer",
        "do_stable_layer_norm": True,
        "conv_bias": True,
    }
    torch.manual_seed(0)
    made = transformers.AutoConfig.for_model("wav2vec2", **(values | config))
    model = transformers.AutoModelForCTC.from_config(made, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "original0" not in name:  # a norm's length stays positive
                weight.copy_(torch.randn_like(weight) * min(0.5, weight[0].numel() ** -0.5))
    folder.mkdir(parents=True)
    model.save_pretrained(folder)
    masked = made.feat_extract_norm == "layer"
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=masked).save_pretrained(folder)
    save_letters(folder)
    return folder
