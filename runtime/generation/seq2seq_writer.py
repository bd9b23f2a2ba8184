"""Texts or pictures in, texts about them out: an encoder-decoder, its tokenizer and defaults."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace

from tokenizers import Encoding

from edgetfm.errors import BundleError, InputError
from edgetfm.runtime.encoder_decoder import EncoderDecoder
from edgetfm.runtime.generation.rows import Row
from edgetfm.runtime.generation.rules import Rules
from edgetfm.runtime.generation.seq2seq import Encoded, Pieces, Seq2Seq
from edgetfm.runtime.generation.seq2seq_options import Seq2SeqOptions
from edgetfm.runtime.generation.stream import Detokenizer
from edgetfm.runtime.generation.writer import Stream, generation_config
from edgetfm.runtime.model import Model
from edgetfm.runtime.text import Text, TextEncoder


def seq2seq_of(model: Model) -> Seq2Seq:
    """The two graphs of a bundle, ready to write; BundleError for a bundle that has one."""
    session = model.session
    if not isinstance(session, EncoderDecoder):
        raise BundleError(f"{model.bundle.root} has one graph: an encoder and a decoder are needed")
    return Seq2Seq(session.encoder, session.decoder, model.bundle.manifest.generation)


class Seq2SeqWriter:
    """A bundle that writes about sources, ready to; `defaults` are the model's own options."""

    def __init__(self, model: Model, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self.model = seq2seq_of(model)
        self.text_of = Detokenizer(encoder.tokenizer)
        config = generation_config(model)
        self.defaults = Seq2SeqOptions.of_model(config, eos=self.model.eos)
        self.rules = Rules.of_model(config, self.model.eos, self.model.vocabulary)

    def write(
        self,
        texts: Sequence[Text],
        options: Seq2SeqOptions,
        *,
        forced_bos: int | None = None,
        max_length: int | None = None,
        batch_size: int = 1,
        answers: int = 1,
    ) -> list[list[Row]]:
        """`answers` answers to each text, `batch_size` texts of like length together.

        forced_bos: the first token of each answer, None is the model's own. max_length: tokens
        that a text is cut at, never more than the model reads. Raises InputError for more answers
        than there are beams to find or draws to make.
        """
        if type(batch_size) is not int or batch_size < 1:
            raise InputError(f"batch_size is {batch_size!r:.60}, it must be a whole number from 1")
        encodings = self._encodings(texts, max_length)
        in_order = sorted(range(len(texts)), key=lambda i: len(encodings[i]))
        found: dict[int, list[Row]] = {}
        for start in range(0, len(in_order), batch_size):
            numbers = in_order[start : start + batch_size]
            encoded = self._encoded([encodings[i] for i in numbers])
            rows = self.answers_to(encoded, len(numbers), options, forced_bos, answers)
            found |= dict(zip(numbers, rows, strict=True))
        return [found[i] for i in range(len(texts))]

    def stream(
        self,
        text: Text,
        options: Seq2SeqOptions,
        *,
        forced_bos: int | None = None,
        max_length: int | None = None,
    ) -> Stream:
        """The answer to one text as it is written; that of a beam search comes whole."""
        return self.stream_about(
            self._encoded(self._encodings([text], max_length)), options, forced_bos
        )

    def stream_about(
        self, encoded: Encoded, options: Seq2SeqOptions, forced_bos: int | None = None
    ) -> Stream:
        """The answer to one source that was encoded."""
        row = Row([self.model.start], options, self.text_of)
        rules = self._rules(options, forced_bos)
        if options.num_beams == 1:
            return Stream(row, self.model.write(encoded, [row], [rules]))
        return Stream(row, self._found(encoded, row, options, rules))

    def _found(
        self, encoded: Encoded, row: Row, options: Seq2SeqOptions, rules: Rules
    ) -> Iterator[Pieces]:
        self.model.search(encoded, [row], options, [rules])
        yield [(0, row.text)]

    def answers_to(
        self,
        encoded: Encoded,
        count: int,
        options: Seq2SeqOptions,
        forced_bos: int | None = None,
        answers: int = 1,
    ) -> list[list[Row]]:
        """`answers` answers to each of `count` sources that were encoded; errors as of `write`."""
        _check_answers(answers, options)
        rules = self._rules(options, forced_bos)

        def row(number: int) -> Row:
            return Row([self.model.start], options, self.text_of, number=number)

        if options.num_beams == 1:
            numbered = [[row(n) for n in range(answers)] for _ in range(count)]
            for n in range(answers):  # each of its own: they end at their own time
                for _ in self.model.write(encoded, [rows[n] for rows in numbered], [rules]):
                    pass
            return numbered
        first = [row(0) for _ in range(count)]
        found = self.model.search(encoded, first, options, [rules])
        return [
            [one, *(self._row_of(h.tokens, options) for h in best[1:answers])]
            for one, best in zip(first, found, strict=True)
        ]

    def _row_of(self, tokens: Sequence[int], options: Seq2SeqOptions) -> Row:
        """A row that says what was found."""
        row = Row([self.model.start], options, self.text_of)
        for token in tokens:
            if row.reason is None:
                row.take(token)
        return row

    def _rules(self, options: Seq2SeqOptions, forced_bos: int | None) -> Rules:
        first = self.rules.forced_bos if forced_bos is None else forced_bos
        return replace(self.rules, forced_bos=first, no_repeat=options.no_repeat_ngram_size)

    def _encodings(self, texts: Sequence[Text], max_length: int | None) -> list[Encoding]:
        encodings = self.encoder.encode(texts, max_length=max_length)
        cut = sum(bool(e.overflowing) for e in encodings)
        if cut and max_length is None:
            warnings.warn(
                f"{cut} of {len(texts)} texts are longer than the {self.encoder.max_length} tokens "
                "the model reads and were cut",
                stacklevel=4,
            )
        return encodings

    def _encoded(self, encodings: Sequence[Encoding]) -> Encoded:
        return self.model.encode(self.encoder.feeds(encodings))


def _check_answers(answers: int, options: Seq2SeqOptions) -> None:
    if type(answers) is not int or answers < 1:
        raise InputError(f"num_return_sequences is {answers!r}, it must be 1 or more")
    if answers > options.num_beams > 1:
        raise InputError(
            f"num_return_sequences is {answers}, and {options.num_beams} beams find no more than "
            "as many: raise num_beams"
        )
    if answers > 1 and options.num_beams == 1 and not options.do_sample:
        raise InputError("several answers to one text need beams (num_beams) or do_sample=True")
