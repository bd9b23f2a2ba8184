"""What stands beside the weights: tokenizer, image processor, pooling, licence. Needs no torch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from edgetfm.errors import MissingExtra, SourceError

_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json")
_VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "spiece.model", "sentencepiece.bpe.model")


@dataclass(frozen=True)
class Prepared:
    """How inputs are made: files for the bundle, a dict for the manifest, notes for the user."""

    assets: dict[str, bytes] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pooling:
    """How sentence-transformers makes one vector of a text."""

    how: str = "mean"
    normalize: bool = False


def read_json(path: Path, *, required: bool = False) -> dict[str, Any]:
    """A JSON object from a file, {} if it is absent and may be."""
    if not path.is_file():
        if required:
            raise SourceError(
                f"{path.parent} has no {path.name}: expected a Hugging Face model folder "
                "(config.json and model.safetensors) or a checkpoint of edgetfm train"
            )
        return {}
    data = _parse(path)
    if not isinstance(data, dict):
        raise SourceError(f"{path} holds a {type(data).__name__}, expected an object")
    return data


def _parse(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise SourceError(f"{path} is not JSON: {error}") from error


def read_list(path: Path) -> list[dict[str, Any]]:
    """A JSON list of objects from a file."""
    data = _parse(path)
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise SourceError(f"{path} is not a list of modules")
    return data


HEADS = {
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "ForPreTraining": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForImageClassification": "image-classification",
    "ForAudioClassification": "audio-classification",
    "ForCTC": "automatic-speech-recognition",
    "ForAudioFrameClassification": "audio-frame-classification",
    "ForXVector": "audio-xvector",
    "MTModel": "translation",
    "ForObjectDetection": "object-detection",
    "ForSemanticSegmentation": "image-segmentation",
    "ForDepthEstimation": "depth-estimation",
    "ForImageClassificationWithTeacher": "image-classification",
}
"""The end of an architecture's name -> the task it does."""


def read_head(config: Mapping[str, Any]) -> str:
    """The head that a config's architecture names, such as `ForMaskedLM`; '' for a bare model.

    Marian's class is the only one that is called otherwise.
    """
    architectures = config.get("architectures") or [""]
    name = str(architectures[0]) if isinstance(architectures, list) else ""
    match = re.search(r"(For[A-Z]\w*|MTModel)$", name)
    return match.group() if match else ""


# --- sentence-transformers ----------------------------------------------------------------------


def read_pooling(folder: Path) -> Pooling:
    """The pooling that modules.json asks for, if it is one that families do themselves.

    Mean, not normalized, without one, and where a head of its own follows the model.
    """
    from edgetfm.sentence import read_sentence_head

    head = read_sentence_head(folder)
    if head is None or not head.is_plain:
        return Pooling()
    return Pooling(head.modes[0], bool(head.steps))


# --- text ---------------------------------------------------------------------------------------


def read_tokenizer(
    folder: Path, *, longest: int, vocabulary: int, trust_remote_code: bool = False
) -> Prepared:
    """The tokenizer as tokenizer.json, converted from older files if need be.

    `longest` is the most tokens the model takes, `vocabulary` how many it embeds.
    """
    if not any((folder / n).is_file() for n in ("tokenizer.json", *_VOCABULARIES)):
        return Prepared(
            notes=("there is no tokenizer: the bundle takes token ids only",),
        )
    text = _tokenizer_json(folder, trust_remote_code)
    config = read_json(folder / "tokenizer_config.json")
    sentence = read_json(folder / "sentence_bert_config.json")
    tokenizer = _parse_tokenizer(text, folder)
    _check_ids(tokenizer, vocabulary, folder)
    pad = _content(config.get("pad_token")) or _content(
        read_json(folder / "special_tokens_map.json").get("pad_token")
    )
    candidates = [pad] if pad else ["[PAD]", "<pad>"]
    known = [(t, tokenizer.token_to_id(t)) for t in candidates]
    token, number = next(((t, n) for t, n in known if n is not None), (candidates[0], 0))
    limits = (config.get("model_max_length"), sentence.get("max_seq_length"), longest)
    entry: dict[str, Any] = {
        "max_length": min(int(x) for x in limits if is_number(x) and 0 < x < 1e9),
        "pad_token_id": number,
        "pad_token": token,
    }
    if sentence.get("do_lower_case") is True:
        entry["lowercase"] = True
    assets = {"tokenizer.json": text.encode()}
    for name in _TOKENIZER_FILES:
        if (folder / name).is_file():
            read_json(folder / name)
            assets[name] = (folder / name).read_bytes()
    return Prepared(assets, {"tokenizer": entry})


def _content(token: Any) -> str | None:
    """A special token is written as a string, or as an object with its content."""
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else None


def _tokenizer_json(folder: Path, trust_remote_code: bool) -> str:
    path = folder / "tokenizer.json"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise SourceError(f"{path} cannot be read: {error}") from error
    try:
        from transformers import AutoTokenizer

        from edgetfm.sources._reference import quiet_transformers
    except ImportError as error:
        raise MissingExtra("export", f"{folder} has no tokenizer.json: making one") from error
    options: dict[str, Any] = {"trust_remote_code": True} if trust_remote_code else {}
    with quiet_transformers():
        try:
            slow = AutoTokenizer.from_pretrained(folder, local_files_only=True, **options)
            return str(slow.backend_tokenizer.to_str())
        except Exception as error:  # transformers raises whatever a file makes it raise
            raise SourceError(
                f"the tokenizer in {folder} cannot be converted to tokenizer.json: {error}"
            ) from error


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value of a file is a number, and no truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _parse_tokenizer(text: str, folder: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_str(text)
    except Exception as error:  # the Rust library raises bare Exception
        raise SourceError(f"{folder / 'tokenizer.json'} is not a tokenizer: {error}") from error


def _check_ids(tokenizer: Any, vocabulary: int, folder: Path) -> None:
    """Every id has an embedding: one beyond them ends a run, on another runtime it reads junk."""
    beyond = sorted((n, t) for t, n in tokenizer.get_vocab().items() if n >= vocabulary)
    if beyond:
        number, token = beyond[-1]
        raise SourceError(
            f"{folder / 'tokenizer.json'} has {len(beyond)} tokens without an embedding, the last "
            f"is {token!r} with id {number}: the model embeds {vocabulary}. Use the model's own "
            "tokenizer, or resize_token_embeddings of the model"
        )


# --- all senses ---------------------------------------------------------------------------------


def _image_processor(folder: Path, config: Any) -> Prepared:
    from edgetfm.image_processors import read_image_processor

    return read_image_processor(folder, config)


_READERS: dict[str, Callable[[Path, Any, bool], Prepared]] = {
    "text": lambda folder, config, trust: read_tokenizer(
        folder, longest=config.longest, vocabulary=config.vocabulary, trust_remote_code=trust
    ),
    "image": lambda folder, config, _trust: _image_processor(folder, config),
    "audio": lambda folder, config, _trust: _feature_extractor(folder, config),
}
"""Sense -> how its inputs are made, by the files in a folder and the model's config."""


def read_inputs(
    folder: Path, senses: Sequence[str], config: Any, *, trust_remote_code: bool = False
) -> Prepared:
    """How a model's inputs are made: its tokenizer, its image processor, or several of them.

    config: has `longest` and `vocabulary` for texts, `image_size` and `channels` for images,
    `least`, `convolutions` and `letters` for sounds.
    """
    parts = [_READERS[sense](folder, config, trust_remote_code) for sense in senses]
    return Prepared(
        {name: data for part in parts for name, data in part.assets.items()},
        {key: entry for part in parts for key, entry in part.preprocessing.items()},
        tuple(note for part in parts for note in part.notes),
    )


def _feature_extractor(folder: Path, config: Any) -> Prepared:
    from edgetfm.ctc_vocabulary import read_vocabulary
    from edgetfm.feature_extractors import read_feature_extractor

    sounds = read_feature_extractor(
        folder, least=config.least, convolutions=[list(step) for step in config.convolutions]
    )
    letters = read_vocabulary(folder) if config.letters else Prepared()
    return Prepared(
        {**sounds.assets, **letters.assets},
        {**sounds.preprocessing, **letters.preprocessing},
        (*sounds.notes, *letters.notes),
    )


# --- licence ------------------------------------------------------------------------------------


def read_licence(folder: Path) -> str | None:
    """The licence that a model card's header names."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    head = card.read_text(encoding="utf-8", errors="replace")[:20_000]
    block = re.match(r"---\s*\n(.*?)\n---", head, re.DOTALL)
    found = (
        re.search(r"^license:\s*[\"']?([\w.+-]+)", block.group(1), re.MULTILINE) if block else None
    )
    return found.group(1) if found else None
