"""Tokens to text, piece by piece: never half a character, never a part of a stop string."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_REPLACEMENT = "�"
"""What bytes that are no character are decoded to: half of one, so far."""

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")

_LOOK_BACK = 6
"""Tokens of the prompt that are looked at: enough to hold a character and a word's start."""


class Detokenizer:
    """A tokenizer as far as it makes text of tokens; special tokens are no text.

    joins_bytes: every token is some bytes, and text is nothing but all of them in a row.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        from tokenizers import decoders

        self.tokenizer = tokenizer
        self.joins_bytes = isinstance(tokenizer.decoder, decoders.ByteLevel)
        self._has_bytes = tokenizer.token_to_id("<0x0A>") is not None
        added = tokenizer.get_added_tokens_decoder()
        self.special = frozenset(i for i, token in added.items() if token.special)

    def __call__(self, ids: list[int]) -> str:
        """The text of tokens."""
        return self.tokenizer.decode(ids) if ids else ""

    def is_byte(self, token: int) -> bool:
        """Whether a token is one byte of a character that has no token of its own."""
        if not self._has_bytes:
            return False
        return _BYTE.fullmatch(self.tokenizer.id_to_token(token) or "") is not None


class TokenStream:
    """The text of tokens as they come; its pieces together are what all tokens decode to.

    context: the tokens before the first one. With them a piece starts with the space that
    decoders take off the start of a text.
    A character that several tokens make comes with the last of them. Bytes that turn out to be
    no character come as U+FFFD, as in a full decode.
    """

    def __init__(self, text_of: Detokenizer, context: Sequence[int] = ()) -> None:
        self._text_of = text_of
        # What was said is decoded again with what is new, back to a place where the text is not
        # empty: decoders treat the start of a text differently.
        self._ids = list(context[-_LOOK_BACK:])
        self._said = self._text_of(self._ids)
        more = _LOOK_BACK
        while not self._said and more < len(context):
            more *= 4
            self._ids = list(context[-more:])
            self._said = self._text_of(self._ids)
        self._new = len(self._ids)
        self._whole = text_of.joins_bytes and not self._said.endswith(_REPLACEMENT)
        if self._whole:
            self._ids, self._said, self._new = [], "", 0

    def add(self, token: int) -> str:
        """The text that this token completes; empty while a character is not whole."""
        if token in self._text_of.special:
            return ""
        if self._whole and _REPLACEMENT not in (piece := self._text_of([token])):
            return piece
        self._whole = False
        self._ids.append(token)
        if self._text_of.is_byte(token):
            return ""  # the bytes of a run are decoded together, or not at all
        text = self._text_of(self._ids)
        return "" if text.endswith(_REPLACEMENT) else self._emit(text)

    def end(self) -> str:
        """The text that was held back, now that nothing follows."""
        return self._emit(self._text_of(self._ids))

    def _emit(self, text: str) -> str:
        piece = text[len(self._said) :]
        if self._text_of.joins_bytes:  # all that was said is whole: what comes stands alone
            self._ids, self._said, self._new, self._whole = [], "", 0, True
            return piece
        recent = self._ids[self._new :]
        said = self._text_of(recent)
        if said:
            self._ids, self._said = recent, said
        else:  # a space that is taken off a start, say: what came before is still needed
            self._said = text
        self._new = len(self._ids)
        return piece


class StopStrings:
    """Text that passes through until one of the strings appears; that string is kept back.

    What might be the start of a stop string is held until it is known not to be.
    """

    def __init__(self, strings: Sequence[str]) -> None:
        self.strings = tuple(strings)
        self.found: str | None = None
        self._held = ""

    def add(self, piece: str) -> str:
        """The text that can be said now; nothing more once `found` is set."""
        if not self.strings or not piece:
            return piece
        if self.found is not None:
            return ""
        text = self._held + piece
        places = [(text.find(s), s) for s in self.strings if s in text]
        if places:
            at, self.found = min(places)
            self._held = ""
            return text[:at]
        keep = max((_overlap(text, s) for s in self.strings), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def end(self) -> str:
        """The text that was held back, now that nothing follows."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, string: str) -> int:
    """The length of the longest end of the text that the string starts with, but is not."""
    longest = min(len(text), len(string) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(string[:n])), 0)
