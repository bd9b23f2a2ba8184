"""Tiny random encoder-decoders as Hugging Face folders, and feeds for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgetfm.signature import Feeds, Signature

_BART: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 48,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
_T5: dict[str, Any] = {
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
ENCODER_DECODERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "t5": ("T5ForConditionalGeneration", "t5", _T5),
    "t5-gated": (
        "T5ForConditionalGeneration",
        "t5",
        _T5
        | {
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
            "num_decoder_layers": 1,
        },
    ),
    "bart": (
        "BartForConditionalGeneration",
        "bart",
        _BART | {"max_position_embeddings": 160},
    ),
    "marian": (
        "MarianMTModel",
        "marian",
        _BART
        | {
            "max_position_embeddings": 160,
            "scale_embedding": True,
            "activation_function": "swish",
            "decoder_layers": 3,
        },
    ),
    "whisper": (
        "WhisperForConditionalGeneration",
        "whisper",
        _BART
        | {
            "max_source_positions": 50,
            "max_target_positions": 64,
            "num_mel_bins": 16,
            "encoder_layers": 1,
        },
    ),
}
"""Kind -> transformers' class, the model type, and what its config says."""
VOCABULARY = 90


def make_tiny_encoder_decoder(kind: str, folder: Path, **config: Any) -> Path:
    """A random encoder-decoder of one of these kinds, without a tokenizer.

    Weights are wide enough that answers differ between inputs, biases and norms are no zeros and
    ones. T5's scores have no scale and its gated units are products: those are narrower.
    """
    import torch
    import transformers

    name, model_type, wanted = ENCODER_DECODERS[kind]
    torch.manual_seed(sum(map(ord, kind)))
    made = transformers.AutoConfig.for_model(
        model_type, **({"vocab_size": VOCABULARY} | wanted | config)
    )
    model = getattr(transformers, name)(made).eval()
    if wanted.get("tie_word_embeddings") is False:
        model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.lm_head.weight))
    with torch.no_grad():
        for key, weight in (*model.named_parameters(), *model.named_buffers()):
            narrow = weight.ndim == 1 or key.endswith(("Attention.q.weight", "wi_1.weight"))
            spread = 0.1 if narrow else 0.3
            around_one = weight.ndim == 1 and bool((weight == 1).all())
            if weight.requires_grad or key == "final_logits_bias":  # not where sines are stored
                weight.copy_(torch.randn_like(weight) * spread + float(around_one))
    if model_type == "bart":
        model.generation_config.forced_bos_token_id = 0
    model.save_pretrained(folder)
    if model_type == "whisper":
        extractor = transformers.WhisperFeatureExtractor(
            feature_size=made.num_mel_bins, chunk_length=made.max_source_positions // 50
        )
        extractor.save_pretrained(folder)
    return folder


def ragged_feeds(signature: Signature, *, read: list[int], written: list[int]) -> Feeds:
    """Random texts of these lengths on both sides, padded on the right; sounds have one length."""
    random = np.random.default_rng(5)
    batch = len(written)
    feeds: Feeds = {}
    for spec in signature.inputs:
        if spec.dtype == "float32":
            sizes = [s for s in spec.shape if isinstance(s, int)]
            feeds[spec.name] = random.standard_normal((batch, *sizes), np.float32)
            continue
        lengths = written if spec.name.startswith("decoder") else read
        ids = random.integers(5, VOCABULARY, (batch, max(lengths)))
        real = np.arange(max(lengths)) < np.array(lengths)[:, None]
        feeds[spec.name] = real.astype(np.int64) if "mask" in spec.name else ids * real
    return feeds


_PREFIXES = {"translation_en_to_de": {"prefix": "water "}, "translation": {"prefix": "the "}}
"""As T5's config has them: what stands before a text of a task."""
SPOKEN = ("<|endoftext|>", "<|startoftranscript|>", "<|nospeech|>", "<|notimestamps|>")
"""The special tokens of a tiny Whisper; times come behind them."""


def make_tiny_writer(kind: str, folder: Path, words: list[str], **config: Any) -> Path:
    """As make_tiny_encoder_decoder, with a tokenizer of whole words and a generation_config.json.

    A Whisper hears windows of one second, and its texts may hold times.
    """
    import json

    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    wanted = ENCODER_DECODERS[kind][2]
    special = SPOKEN if kind == "whisper" else ("<pad>", "</s>", "<s>", "<unk>")
    known = list(dict.fromkeys(words))
    if kind == "whisper":
        tokens = [*known, *special]
        end, start = len(known), len(known) + 1
        times = 1 + wanted["max_source_positions"]
        config = {"vocab_size": len(tokens) + times, "tie_word_embeddings": False} | config
        config |= {"pad_token_id": end, "bos_token_id": end, "eos_token_id": end}
        config |= {"decoder_start_token_id": start}
    else:
        order = {wanted["pad_token_id"]: "<pad>", wanted["eos_token_id"]: "</s>"}
        rest = iter([t for t in (*special, *known) if t not in order.values()])
        tokens = [order[i] if i in order else next(rest) for i in range(len(known) + 4)]
        config = {"vocab_size": len(tokens), "task_specific_params": _PREFIXES} | config
    make_tiny_encoder_decoder(kind, folder, **config)
    number = {token: i for i, token in enumerate(tokens)}
    unknown = special[-1] if kind == "whisper" else "<unk>"
    tokenizer = Tokenizer(models.WordLevel(number, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in special])
    if kind != "whisper":
        ending = ("</s>", number["</s>"])
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B </s>", special_tokens=[ending]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=32,
        pad_token=special[0],
        unk_token=unknown,
        eos_token=special[0] if kind == "whisper" else "</s>",
    ).save_pretrained(folder)
    if kind == "whisper":
        file = folder / "generation_config.json"
        more = {
            "no_timestamps_token_id": number["<|notimestamps|>"],
            "suppress_tokens": [2],
            "begin_suppress_tokens": [0],
        }
        file.write_text(json.dumps({**json.loads(file.read_text()), **more}))
    return folder
