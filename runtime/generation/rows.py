"""One answer while it is written: its tokens, its text so far, and why it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from edgetfm.runtime.generation.options import GenerationOptions
from edgetfm.runtime.generation.sampling import Sampler
from edgetfm.runtime.generation.stream import Detokenizer, StopStrings, TokenStream

Reason = Literal["end", "stop string", "length", "context", "cancelled"]


class Row:
    """An answer to one prompt.

    text_of: None leaves the tokens as they are, without text and stop strings. completes: the
    text goes on where the prompt ends, so that the space between them belongs to it.
    number: of an answer, where several are asked for. reason: why it ended, None until then.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        options: GenerationOptions,
        text_of: Detokenizer | None = None,
        *,
        completes: bool = False,
        number: int = 0,
    ) -> None:
        self.prompt = list(prompt)
        self.options = options
        self.tokens: list[int] = []
        self.text = ""
        self.reason: Reason | None = None
        self.stopping = False
        self.sampler = Sampler(options, self.prompt, number=number)
        self._stream = None
        if text_of is not None:
            self._stream = TokenStream(text_of, self.prompt if completes else ())
        self._stops = StopStrings(options.stop_strings)
        self._limit = options.max_new_tokens
        self._limit_reason: Reason = "length"

    def fit(self, context: int) -> None:
        """Keep prompt and answer within the model's context."""
        room = context - len(self.prompt)
        if room < self._limit:
            self._limit, self._limit_reason = room, "context"

    @property
    def room(self) -> int:
        """How many tokens may still come."""
        return self._limit - len(self.tokens)

    def take(self, token: int) -> str:
        """Add a token; the text that can be said now. Sets `reason` if it was the last."""
        self.tokens.append(token)
        piece = ""
        if token in self.options.eos_token_id:
            self.reason = "end"
        elif self._stream is not None:
            piece = self._stops.add(self._stream.add(token))
            if self._stops.found is not None:
                self.reason = "stop string"
        if self.reason is None and self.room <= 0:
            self.reason = self._limit_reason
        if self.reason is None and self.stopping:
            self.reason = "cancelled"
        if self.reason is not None:
            piece += self._rest()
        self.text += piece
        return piece

    def stop(self) -> None:
        """End it with the next token, or before the first one."""
        self.stopping = True

    def _rest(self) -> str:
        """What was held back, now that nothing follows."""
        if self._stream is None:
            return ""
        piece = self._stops.add(self._stream.end()) + self._stops.end()
        if self._stops.found is not None:
            self.reason = "stop string"
        return piece
