"""Text to token ids, by the tokenizer that ships with a bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetfm.errors import BundleError, InputError, listed
from edgetfm.signature import CACHE_INPUTS, Feeds, Signature

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Text = str | tuple[str, str]
"""One text, or a pair such as a question and its context."""

_FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
_ASSETS = ("tokenizer_config.json", "special_tokens_map.json")


class TextEncoder:
    """Texts to the inputs of a signature: cut at `max_length` tokens, padded on the right.

    width: the number of tokens that every text is padded to, of a graph that takes no other.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], signature: Signature) -> None:
        inputs = [t for t in signature.inputs if not t.name.startswith(CACHE_INPUTS)]
        unknown = [t.name for t in inputs if t.name not in _FIELDS]
        if unknown:
            raise BundleError(f"no text becomes the input {', '.join(unknown)}")
        problems = _wrong(settings)
        if problems:
            raise BundleError(f"the text preprocessing is malformed:\n{listed(problems)}")
        self.folder = folder
        self.names = tuple(t.name for t in inputs)
        self.dtypes = {t.name: t.dtype for t in inputs}
        self.max_length: int | None = settings.get("max_length")
        fixed = [axis for t in inputs for axis in t.shape[1:2] if isinstance(axis, int)]
        self.width: int | None = min(fixed, default=None)
        self.pad_token_id: int = settings.get("pad_token_id") or 0
        self.lowercase = bool(settings.get("lowercase", False))
        self._turn = Lock()  # a tokenizer that is used while its truncation is set raises

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The `tokenizers` tokenizer, without truncation or padding of its own."""
        from tokenizers import Tokenizer

        path = self.folder / "tokenizer.json"
        if not path.is_file():
            raise BundleError(f"no tokenizer.json in {self.folder}")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare exceptions
            raise BundleError(f"{path} is not a tokenizer: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def token(self, name: str) -> str | None:
        """A special token by its name, such as `mask_token`, or None."""
        for asset in _ASSETS:
            path = self.folder / asset
            try:
                data = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
                value = data.get(name)
            except (ValueError, AttributeError, RecursionError) as error:
                raise BundleError(f"{path} is not a JSON object: {error}") from error
            if value is not None:
                return str(value["content"] if isinstance(value, Mapping) else value)
        usual = {"mask_token": ("[MASK]", "<mask>"), "unk_token": ("[UNK]", "<unk>")}
        known = self.tokenizer.token_to_id
        return next((t for t in usual.get(name, ()) if known(t) is not None), None)

    def encode(
        self,
        texts: Sequence[Text],
        *,
        max_length: int | None = None,
        stride: int = 0,
        truncate: str = "longest_first",
    ) -> list[Encoding]:
        """One encoding a text; what was cut off is in its `overflowing`.

        max_length: tokens with the special ones, never more than the model takes.
        """
        limit = self._limit(max_length)
        tokenizer = self.tokenizer
        if limit is not None:
            special = max(tokenizer.num_special_tokens_to_add(isinstance(t, tuple)) for t in texts)
            if limit <= special + stride:
                raise InputError(
                    f"max_length is {limit}, but {special} special tokens and a stride of {stride} "
                    "have to fit in"
                )
        prepared = [self._prepared(text) for text in texts]
        with self._turn:
            if limit is not None:
                tokenizer.enable_truncation(limit, stride=stride, strategy=truncate)
            try:
                encodings: list[Encoding] = tokenizer.encode_batch(prepared)
            except Exception as error:  # tokenizers raises bare exceptions
                if not all(_is_unicode(part) for text in prepared for part in _parts(text)):
                    raise InputError(
                        "the text is not Unicode: it was not given as UTF-8"
                    ) from error
                within = "" if limit is None else f" within {limit} tokens"
                raise InputError(f"the tokenizer cannot encode this{within}: {error}") from error
            finally:
                tokenizer.no_truncation()
        return encodings

    def ids(self, text: str, *, special_tokens: bool = True) -> list[int]:
        """All tokens of a text, however many; the special ones that the model expects if wanted."""
        with self._turn:
            try:
                encoding = self.tokenizer.encode(text, add_special_tokens=special_tokens)
            except Exception as error:  # tokenizers raises bare exceptions
                if not _is_unicode(text):
                    raise InputError(
                        "the text is not Unicode: it was not given as UTF-8"
                    ) from error
                raise InputError(f"the tokenizer cannot encode this: {error}") from error
        return list(encoding.ids)

    def feeds(self, encodings: Sequence[Encoding]) -> Feeds:
        """The encodings as arrays [batch, longest]; padding has attention_mask 0."""
        width = self.width or max(1, *(len(e) for e in encodings))
        arrays: Feeds = {}
        for name in self.names:
            fill = self.pad_token_id if name == "input_ids" else 0
            array = np.full((len(encodings), width), fill, dtype=self.dtypes[name])
            for row, encoding in zip(array, encodings, strict=True):
                row[: len(encoding)] = getattr(encoding, _FIELDS[name])
            arrays[name] = array
        return arrays

    def __call__(self, texts: Sequence[Text], *, max_length: int | None = None) -> Feeds:
        """The texts as arrays; InputError lists every text that is none."""
        return self.feeds(self.encode(checked_texts(texts), max_length=max_length))

    def _limit(self, max_length: int | None) -> int | None:
        if max_length is not None and max_length < 1:
            raise InputError(f"max_length is {max_length}, it must be 1 or more")
        given = (max_length, self.max_length, self.width)
        limits = [limit for limit in given if limit is not None]
        return min(limits, default=None)

    def _prepared(self, text: Text) -> Text:
        if not self.lowercase:
            return text
        return text.lower() if isinstance(text, str) else (text[0].lower(), text[1].lower())


def _wrong(settings: Any) -> list[str]:
    """What is wrong with a manifest's preprocessing["tokenizer"]."""
    if not isinstance(settings, Mapping):
        return [f"it is {settings!r:.60}, expected a table"]
    numbers = {"max_length": 1, "pad_token_id": 0}
    return [
        f"{name} is {settings[name]!r:.60}, expected a whole number from {least}"
        for name, least in numbers.items()
        if settings.get(name) is not None
        and not (type(settings[name]) is int and least <= settings[name] < 1 << 31)
    ]


def checked_texts(texts: Any) -> list[Text]:
    """The texts as a list; a single text is a list of one. InputError for anything else."""
    if isinstance(texts, (str, tuple)):
        texts = [texts]
    if not isinstance(texts, Sequence) or isinstance(texts, bytes):
        raise InputError(f"expected text or a list of texts, got {type(texts).__name__}")
    if not texts:
        raise InputError("no texts were given")
    checked: list[Text] = []
    problems = []
    for i, text in enumerate(texts):
        if isinstance(text, str):
            checked.append(text)
        elif _is_pair(text):
            checked.append((text[0], text[1]))
        else:
            problems.append(
                f"text {i} is {type(text).__name__}, expected text or a pair of two texts"
            )
    if problems:
        raise InputError(listed(problems))
    return checked


def _parts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def _is_unicode(text: str) -> bool:
    """Whether it has no half of a surrogate pair, which is what bytes that are no UTF-8 become."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(isinstance(part, str) for part in value)
    )
