"""A chat with a model: what was said so far, and the next answer."""

from __future__ import annotations

from edgetfm.errors import InputError
from edgetfm.runtime.generation.options import GenerationOptions
from edgetfm.runtime.generation.writer import Stream, Writer


class Conversation:
    """Turns of a user and a model; `messages` holds them, with the answer that was last begun.

    left_out: how many of the first messages no longer fit the model's context. The cache of one
    answer serves the next: only what is new is read.
    """

    def __init__(
        self, writer: Writer, options: GenerationOptions, *, system: str | None = None
    ) -> None:
        if writer.template is None:
            raise InputError(
                "this model has no chat template, it only goes on from a text: edgetfm run, or "
                "edgetfm.pipeline(...)(text)"
            )
        self.writer = writer
        self.options = options
        self.left_out = 0
        self._system = [] if system is None else [{"role": "system", "content": system}]
        self._said: list[dict[str, str]] = []
        self._stream: Stream | None = None

    @property
    def messages(self) -> list[dict[str, str]]:
        """All that was said, whether or not the model still sees it."""
        return [*self._system, *self._said, *self._answered()]

    def answer(self, text: str) -> Stream:
        """The model's answer to this, as it is written.

        The oldest messages are left out where the whole would not fit; InputError if `text`
        alone does not.
        """
        said = [*self._said, *self._answered(), {"role": "user", "content": text}]
        left_out = self.left_out
        while True:
            shown = [*self._system, *said[left_out:]]
            if len(self.writer.ids(shown)) < self._most or left_out + 2 >= len(said):
                break
            left_out += 2  # a question and its answer: templates want them to alternate
        stream = self.writer.stream(shown, self.options)
        self._said, self._stream, self.left_out = said, stream, left_out
        return stream

    def _answered(self) -> list[dict[str, str]]:
        if self._stream is None:
            return []
        return [{"role": "assistant", "content": self._stream.text}]

    @property
    def _most(self) -> int:
        """Tokens of a prompt that leave room for an answer."""
        context = self.writer.decoder.context
        return context - min(self.options.max_new_tokens, context // 4)
