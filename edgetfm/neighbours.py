"""What other people's programs read in a bundle says what ships in it.

Optimum and Transformers.js take a bundle for a folder of Hugging Face's. Its files come from the
source, and know neither the variant that was chosen nor the versions that those programs are at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from edgetfm.genai import GENAI_CONFIG, genai_config

if TYPE_CHECKING:
    from edgetfm.manifest import Manifest

DTYPES = {
    "fp32": "fp32",
    "fp16": "fp16",
    "int8": "int8",
    "int8-weight": "q8",
    "int8-static": "uint8",
    "int4": "q4",
}
"""Precision -> the dtype by which Transformers.js finds the file; a16w8, for NPUs, has none.

https://github.com/huggingface/transformers.js/blob/main/packages/transformers/src/utils/dtypes.js
"""

_ANY_TOKENIZER = "PreTrainedTokenizerFast"
"""The class that is made of tokenizer.json alone, in transformers 4 and 5."""

_GENERIC = ("TokenizersBackend", _ANY_TOKENIZER)
"""Classes that mean whatever tokenizer.json says; transformers 4 does not know the first."""

_ROLES = (
    ("cls_token", ("[CLS]", "<s>")),
    ("sep_token", ("[SEP]", "</s>")),
    ("unk_token", ("[UNK]", "<unk>")),
    ("mask_token", ("[MASK]", "<mask>")),
)

_RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}
"""Pillow's numbers, which preprocessor_config.json has."""


def adapted(read: Callable[[str], bytes | None], manifest: Manifest) -> dict[str, bytes]:
    """The files that neighbours need and that differ from what is there, by name.

    read: the content of a file of the bundle, None if it has none. Files that are not JSON objects
    stay as they are.
    """
    made = {
        "config.json": _config(_object(read("config.json")), manifest),
        "tokenizer_config.json": _tokenizer_config(
            _object(read("tokenizer_config.json")), _object(read("tokenizer.json")), manifest
        ),
        "preprocessor_config.json": _preprocessor_config(
            read("preprocessor_config.json") is not None, manifest
        ),
    }
    made[GENAI_CONFIG] = genai_config(made["config.json"] or {}, manifest)
    return {
        name: (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()
        for name, data in made.items()
        if data is not None and data != _object(read(name))
    }


def _object(content: bytes | None) -> dict[str, Any] | None:
    """The JSON object in a file, None if it is something else."""
    try:
        data = json.loads(content or b"")
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) else None


def _config(data: Mapping[str, Any] | None, manifest: Manifest) -> dict[str, Any] | None:
    """The config with the variant that Transformers.js opens if it is told nothing.

    What the source said there was about other files.
    """
    if data is None or "model_type" not in data:
        return None
    config = {k: v for k, v in data.items() if k != "transformers.js_config"}
    dtype = DTYPES.get(manifest.default)
    if dtype is not None:
        external = any(c.variants[manifest.default].data for c in manifest.components.values())
        config["transformers.js_config"] = {"dtype": dtype, "use_external_data_format": external}
    return config


def _tokenizer_config(
    data: Mapping[str, Any] | None, tokenizer: Mapping[str, Any] | None, manifest: Manifest
) -> dict[str, Any] | None:
    """The tokenizer's config with a class that transformers 4 has, and the bundle's own length.

    Without one it names the tokens that a tokenizer.json of BERT's or RoBERTa's kind has.
    """
    known = manifest.preprocessing.get("tokenizer")
    if tokenizer is None or not isinstance(known, dict):
        return None
    if data is None:
        added = {t.get("content") for t in tokenizer.get("added_tokens") or ()}
        named = {role: next((t for t in names if t in added), None) for role, names in _ROLES}
        data = {k: v for k, v in named.items() if v} | {"pad_token": known["pad_token"]}
        data["tokenizer_class"] = _ANY_TOKENIZER
    config = {**data, "model_max_length": known["max_length"]}
    if config.get("tokenizer_class") in _GENERIC:
        pairs = any(t.name == "token_type_ids" for t in manifest.signature.inputs)
        config |= _as_bert(tokenizer) if pairs else {"tokenizer_class": _ANY_TOKENIZER}
    return config


def _as_bert(tokenizer: Mapping[str, Any]) -> dict[str, Any]:
    """The class with which Transformers.js tells the two texts of a pair apart.

    It goes by the class alone. In transformers BERT's normalizes as its options say, whatever
    tokenizer.json has, and is WordPiece: any other tokenizer keeps the class for all.
    """
    model, normalizer = (tokenizer.get(key) or {} for key in ("model", "normalizer"))
    if model.get("type") != "WordPiece" or normalizer.get("type") != "BertNormalizer":
        return {"tokenizer_class": _ANY_TOKENIZER}
    return {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": normalizer["lowercase"],
        "strip_accents": normalizer["strip_accents"],
        "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
    }


def _preprocessor_config(there: bool, manifest: Manifest) -> dict[str, Any] | None:
    """What edgetfm took for granted about pictures, where the source said nothing."""
    image = manifest.preprocessing.get("image")
    if there or not isinstance(image, dict) or image.get("resize", {}).get("mode") != "exact":
        return None
    height, width = image["size"]
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": height, "width": width},
        "resample": _RESAMPLE[image["resample"]],
        "do_rescale": True,
        "rescale_factor": image["rescale"],
        "do_normalize": True,
        "image_mean": image["mean"],
        "image_std": image["std"],
    }
