"""An encoder's and a decoder's graph run as one model: whole texts at once, or token by token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetfm.errors import BundleError
from edgetfm.runtime._ort import ort
from edgetfm.runtime.devices import Device
from edgetfm.runtime.session import Session, Settings, make_session
from edgetfm.signature import (
    PAST,
    PRESENT,
    TARGET,
    TARGET_MASK,
    USE_CACHE,
    Array,
    Feeds,
    Signature,
)
from edgetfm.stages import DECODER, ENCODER, Graph, Pair, whole

HIDDEN, SOURCE_MASK = "encoder_hidden_states", "encoder_attention_mask"


@dataclass(frozen=True)
class EncoderDecoder:
    """Two graphs ready to run, made by `open_graph`; of whole texts it is asked as a Session is."""

    encoder: Session
    decoder: Session

    @property
    def signature(self) -> Signature:
        """What `run` takes and gives."""
        return whole({ENCODER: self.encoder.signature, DECODER: self.decoder.signature})

    @property
    def device(self) -> Device:
        """Where both run."""
        return self.encoder.device

    @property
    def settings(self) -> Settings:
        """The onnxruntime settings of both."""
        return self.encoder.settings

    @property
    def placement(self) -> dict[str, int]:
        """Provider -> how many nodes of both graphs it runs."""
        both = Counter(self.encoder.placement) + Counter(self.decoder.placement)
        return dict(both.most_common())

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers that hold at least one node, the one with the most nodes first."""
        return tuple(self.placement)

    def run(self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None) -> Feeds:
        """The logits of whole texts about whole sources, [batch, decoder_sequence, vocabulary].

        Which of the target's tokens count is for who compares: none sees those behind it.
        """
        return self.decoder.run(self.first_step(feeds), outputs or ["logits"])

    def encode(self, feeds: Mapping[str, Any]) -> Feeds:
        """What the decoder is told of sources, by the names of its inputs; other feeds are left.

        encoder_hidden_states float32 [batch, encoder_sequence, width], and the mask where there
        is one.
        """
        names = {t.name for t in self.encoder.signature.inputs}
        hidden = self.encoder.run({n: a for n, a in feeds.items() if n in names})
        told = {HIDDEN: hidden["last_hidden_state"]}
        if any(t.name == SOURCE_MASK for t in self.decoder.signature.inputs):
            told[SOURCE_MASK] = np.asarray(feeds["attention_mask"])
        return told

    def first_step(self, feeds: Mapping[str, Any]) -> Feeds:
        """The decoder's inputs when the whole target is one step and nothing is past."""
        return self._nothing_past({**self.encode(feeds), "input_ids": np.asarray(feeds[TARGET])})

    def _nothing_past(self, told: Feeds) -> Feeds:
        step = {USE_CACHE: np.array([False]), **told}
        for spec in self.decoder.signature.inputs:
            if spec.name.startswith(PAST):
                _, heads, _, size = spec.shape
                shape = (len(told["input_ids"]), int(heads), 0, int(size))
                step[spec.name] = np.zeros(shape, spec.dtype)
        return step

    def begin(self, feeds: Mapping[str, Any]) -> Writing:
        """Sources read, and nothing written about them yet."""
        return Writing(self, self.encode(feeds))


class Writing:
    """Texts that are being written about sources: each step adds tokens to all of them.

    What the decoder keeps goes from step to step as onnxruntime's own tensors: nothing is copied
    of the sources, and of the texts what the attention's own node copies.
    """

    def __init__(self, model: EncoderDecoder, told: Feeds) -> None:
        self._model, self._told = model, told
        self._bound = {n: _value(a) for n, a in told.items()}
        self._kept: dict[str, Any] = {}
        self.length = 0

    def step(self, tokens: Array) -> Array:
        """The logits [batch, n, vocabulary] behind each of these tokens, int64 [batch, n].

        Steps after the first take one token, or any number where the batch is one.
        """
        session = self._model.decoder
        first = not self._kept
        if first:
            nothing = self._model._nothing_past({**self._told, "input_ids": tokens})
            self._kept = {n: _value(a) for n, a in nothing.items() if n.startswith(PAST)}
        binding = session.io_binding()
        binding.bind_cpu_input("input_ids", np.ascontiguousarray(tokens, np.int64))
        binding.bind_cpu_input(USE_CACHE, np.array([not first]))
        for name, value in {**self._bound, **self._kept}.items():
            binding.bind_ortvalue_input(name, value)
        wanted = ["logits", *(_present(n) for n in self._kept if first or not _of_source(n))]
        for name in wanted:
            binding.bind_output(name)
        session.run_bound(binding)
        logits, *kept = binding.get_outputs()
        self._kept |= dict(zip(map(_past, wanted[1:]), kept, strict=True))
        self.length += tokens.shape[1]
        answer: Array = logits.numpy()
        return answer

    def select(self, rows: Array) -> None:
        """Go on with these rows, int64 [new batch], in this order; one may be taken repeatedly."""
        if np.array_equal(rows, np.arange(self._rows)):
            return
        self._told = {n: a[rows] for n, a in self._told.items()}
        self._bound = {n: _value(a) for n, a in self._told.items()}
        self._kept = {n: _value(v.numpy()[rows]) for n, v in self._kept.items()}

    @property
    def _rows(self) -> int:
        return len(self._told[HIDDEN])


def _value(array: Array) -> Any:
    return ort().OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))


def _present(name: str) -> str:
    return name.replace(PAST, PRESENT, 1)


def _past(name: str) -> str:
    return name.replace(PRESENT, PAST, 1)


def _of_source(name: str) -> bool:
    return ".encoder." in name


def open_graph(
    graph: Graph, *, signatures: Mapping[str, Signature] | None = None, **options: Any
) -> Session | EncoderDecoder:
    """A graph, or a pair of them as one; options and errors are those of `make_session`.

    signatures: what each component must take and give.
    """
    known = dict(signatures or {})
    if not isinstance(graph, Pair):
        return make_session(graph, signature=next(iter(known.values()), None), **options)
    encoder = make_session(graph.encoder, signature=known.get(ENCODER), **options)
    decoder = make_session(graph.decoder, signature=known.get(DECODER), **options)
    _fit(encoder, decoder)
    return EncoderDecoder(encoder, decoder)


def _fit(encoder: Session, decoder: Session) -> None:
    """Raise a BundleError for graphs that are no encoder and decoder of one model."""
    gives = {t.name: t for t in encoder.signature.outputs}
    takes = {t.name: t for t in decoder.signature.inputs}
    if "last_hidden_state" not in gives or not {HIDDEN, "input_ids", USE_CACHE} <= takes.keys():
        raise BundleError(
            f"{encoder.path.name} and {decoder.path.name} are no encoder and merged decoder: they "
            f"give {', '.join(gives)} and take {', '.join(takes)}"
        )
    given, taken = gives["last_hidden_state"].shape[-1], takes[HIDDEN].shape[-1]
    if given != taken and isinstance(given, int) and isinstance(taken, int):
        raise BundleError(
            f"{encoder.path.name} gives vectors of {given}, {decoder.path.name} takes {taken}: "
            "they are of two models"
        )


# --- the same texts in other steps --------------------------------------------------------------


def in_two_parts(model: EncoderDecoder, feeds: Feeds, first: int) -> Feeds:
    """The logits of one text: of `first` tokens, then of the others at once."""
    tokens, writing = feeds[TARGET], model.begin(feeds)
    parts = [writing.step(tokens[:, :first]), writing.step(tokens[:, first:])]
    return {"logits": np.concatenate(parts, axis=1)}


def token_by_token(model: EncoderDecoder, feeds: Feeds, first: int) -> Feeds:
    """The logits of a batch: of `first` tokens at once, then of one after the other."""
    tokens, writing = feeds[TARGET], model.begin(feeds)
    parts = [writing.step(tokens[:, :first])]
    parts += [writing.step(tokens[:, i : i + 1]) for i in range(first, tokens.shape[1])]
    return {"logits": np.concatenate(parts, axis=1)}


def continue_greedily(model: EncoderDecoder, feeds: Feeds, *, start: Sequence[int],
                      ends: Sequence[int], pad: int, most: int) -> Feeds:  # fmt: skip
    """The feeds with the text that the model writes about each source, of `most` tokens at most.

    start: the tokens that a text begins with. Behind an end a row is padding.
    """
    writing = model.begin(feeds)
    rows = writing._rows
    tokens = np.tile(np.array(start, np.int64), (rows, 1))
    written, done, real = [tokens], np.zeros(rows, bool), [np.ones_like(tokens)]
    for _ in range(most - len(start)):
        best = writing.step(written[-1])[:, -1].argmax(-1)
        best = np.where(done, pad, best)
        real.append((~done).astype(np.int64)[:, None])
        written.append(best[:, None])
        done |= np.isin(best, list(ends))
        if done.all():
            break
    target = {TARGET: np.concatenate(written, 1), TARGET_MASK: np.concatenate(real, 1)}
    return {**feeds, **target}


def decoder_items(model: EncoderDecoder, feeds: Sequence[Feeds]) -> Iterator[Feeds]:
    """Each row of whole feeds as the decoder's inputs, source and target without their padding."""
    for batch in feeds:
        told = model.encode(batch)
        for row in range(len(batch[TARGET])):
            length = int(batch[TARGET_MASK][row].sum())
            one = {n: a[row : row + 1] for n, a in told.items()}
            if SOURCE_MASK in one:
                source = int(one[SOURCE_MASK].sum())
                one = {n: a[:, :source] for n, a in one.items()}
            one["input_ids"] = batch[TARGET][row : row + 1, :length]
            yield model._nothing_past(one)
