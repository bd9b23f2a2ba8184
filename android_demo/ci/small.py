"""Models of a few thousand random weights, for tasks of the app that no small real model does."""

from __future__ import annotations

from pathlib import Path

LABELS = {0: "rain", 1: "sun", 2: "snow"}


def text_classifier(into: Path, tokenizer: Path) -> Path:
    """BERT that sorts texts, with a real tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    words = AutoTokenizer.from_pretrained(tokenizer)
    config = BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=128, id2label=LABELS, initializer_range=0.3,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(into)
    words.save_pretrained(into)
    return into


def sound_classifier(into: Path) -> Path:
    """Wav2vec 2.0 that sorts sounds."""
    import torch
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForSequenceClassification,
    )

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        conv_dim=(32, 32, 32), conv_stride=(5, 4, 4), conv_kernel=(10, 8, 8),
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2, id2label=LABELS,
        initializer_range=0.3,
    )  # fmt: skip
    Wav2Vec2ForSequenceClassification(config).save_pretrained(into)
    Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(into)
    return into


def picture_encoder(into: Path) -> Path:
    """ViT that makes vectors of pictures."""
    import torch
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=32, patch_size=8, initializer_range=0.3,
    )  # fmt: skip
    ViTModel(config).save_pretrained(into)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(into)
    return into
