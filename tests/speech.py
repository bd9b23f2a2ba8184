"""Tiny models of speech, made on the spot: random ones, and one that learns to write vowels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


RATE = 16_000
_VOWELS = {
    "A": (730, 1090, 2440),
    "I": (270, 2290, 3010),
    "U": (300, 870, 2240),
    "E": (530, 1840, 2480),
}


def vowels(seed: int, count: int) -> list[tuple[NDArray[np.float32], str]]:
    """Spoken vowels with pauses between, two to four a sound, and what they are: 'A I A'."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        words = [str(word) for word in random.choice(list(_VOWELS), random.integers(2, 5))]
        parts = [np.zeros(random.integers(300, 1500))]
        for word in words:
            parts += [_vowel(random, word), np.zeros(random.integers(960, 1600))]
        wave = np.concatenate(parts)
        wave += random.normal(0, 0.01, len(wave))
        made.append((wave.astype(np.float32), " ".join(words)))
    return made


def _vowel(random: np.random.Generator, word: str) -> NDArray[np.float64]:
    seconds = np.arange(random.integers(1600, 2800)) / RATE
    pitch, wave = random.uniform(90, 220), np.zeros(len(seconds))
    for harmonic in range(1, int(3500 / pitch)):
        hertz = harmonic * pitch
        loud = sum(1 / (1 + ((hertz - f) / 90) ** 2) for f in _VOWELS[word]) / harmonic
        wave += loud * np.sin(2 * np.pi * hertz * seconds + random.uniform(0, 6))
    return np.asarray(0.5 * wave / np.abs(wave).max())


def train_speech(folder: Path, steps: int = 500) -> Path:
    """The tiny wav2vec2 after half a minute of learning to write vowels: most words are right."""
    import torch
    import transformers

    make_tiny_speech(folder, num_hidden_layers=2, hidden_size=48, intermediate_size=96)
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    dropped = ("hidden", "attention", "activation", "feat_proj", "final")
    model = transformers.AutoModelForCTC.from_pretrained(
        folder,
        layerdrop=0.0,
        mask_time_prob=0.0,
        ctc_loss_reduction="mean",
        **{f"{name}_dropout": 0.0 for name in dropped},
    ).train()
    torch.manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    spoken = vowels(0, 512)
    random = np.random.default_rng(0)
    for _ in range(steps):
        chosen = [spoken[i] for i in random.integers(0, len(spoken), 16)]
        inputs = extractor(
            [wave for wave, _ in chosen], sampling_rate=RATE, padding=True, return_tensors="pt"
        )
        labels = torch.full((len(chosen), 8), -100)
        for row, (_, text) in zip(labels, chosen, strict=True):
            ids = [LETTERS.index("|" if letter == " " else letter) for letter in text]
            row[: len(ids)] = torch.tensor(ids)
        loss = model(**inputs, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.save_pretrained(folder)
    return folder
