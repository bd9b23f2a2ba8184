"""A folder's vocabulary of letters, by which a model of speech writes. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgetfm.assets import Prepared, read_json
from edgetfm.errors import SourceError

_FILES = ("vocab.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_KIND = "Wav2Vec2CTCTokenizer"
_NAMED = {"unk_token": "<unk>", "pad_token": "<pad>"}


def read_vocabulary(folder: Path) -> Prepared:
    """How the classes of frames become text; nothing, and a note, without a vocabulary.

    Raises SourceError for a vocabulary that is none, or of no language that is named.
    """
    path = folder / "vocab.json"
    config = read_json(folder / "tokenizer_config.json")
    kind = str(config.get("tokenizer_class", _KIND))
    if not path.is_file() or kind not in (_KIND, "Wav2Vec2Tokenizer"):
        return Prepared(
            notes=(f"{folder} has no vocab.json of a {_KIND}: there are letters for no frame",)
        )
    special = read_json(folder / "special_tokens_map.json")
    words = {
        name: _content(config.get(name, special.get(name))) or usual
        for name, usual in _NAMED.items()
    }
    tokens = _tokens(path, config.get("target_lang"), words["unk_token"])
    added = config.get("added_tokens_decoder") or {}
    for number, token in {**_numbered(added), **_numbered(_inverted(folder))}.items():
        tokens += [words["unk_token"]] * (number + 1 - len(tokens))
        if tokens[number] == words["unk_token"]:
            tokens[number] = token
    entry = {
        "tokens": tokens,
        "blank": words["pad_token"],
        "delimiter": _content(config.get("word_delimiter_token", "|")),
        "space": str(config.get("replace_word_delimiter_char", " ")),
        "unknown": words["unk_token"],
        "lowercase": config.get("do_lower_case") is True,
        "tidy": config.get("clean_up_tokenization_spaces") is True,
    }
    if entry["blank"] not in tokens:
        raise SourceError(f"{path} has no {entry['blank']!r}, the token that says nothing")
    files = {n: (folder / n).read_bytes() for n in _FILES if (folder / n).is_file()}
    return Prepared(files, {"ctc": entry})


def _tokens(path: Path, language: Any, unknown: str) -> list[str]:
    """The token of each number, `unknown` where there is none."""
    found: Any = read_json(path)
    if language is not None:
        found = found.get(language)
    if found and all(isinstance(part, dict) for part in found.values()):
        raise SourceError(
            f"{path} has the languages {', '.join(found)}: name one as target_lang in "
            "tokenizer_config.json"
        )
    numbers = list(found.values()) if isinstance(found, dict) else []
    if not numbers or not all(isinstance(n, int) and 0 <= n < _MOST for n in numbers):
        raise SourceError(f"{path} is no vocabulary: it maps tokens to numbers")
    tokens = [unknown] * (max(numbers) + 1)
    for token, number in found.items():
        tokens[number] = token
    return tokens


_MOST = 1 << 20
"""Tokens that a vocabulary may have."""


def _inverted(folder: Path) -> dict[str, Any]:
    return {str(n): token for token, n in read_json(folder / "added_tokens.json").items()}


def _numbered(tokens: Any) -> dict[int, str]:
    """Added tokens by their numbers; what is none is left out."""
    if not isinstance(tokens, dict):
        return {}
    pairs = {str(n): _content(token) for n, token in tokens.items()}
    return {int(n): t for n, t in pairs.items() if n.isdecimal() and t and int(n) < _MOST}


def _content(token: Any) -> str | None:
    """A special token is written as a string, or as an object with its content."""
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else None
