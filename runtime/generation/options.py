"""How text is generated: the options, under the names of transformers' GenerationConfig."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from edgetfm.errors import BundleError, InputError, listed

_SAMPLING = ("temperature", "top_k", "top_p", "min_p")
"""Options that only mean something when sampling: naming one asks for it."""


@dataclass(frozen=True)
class GenerationOptions:
    """What to generate and when to stop.

    max_new_tokens: at most; never beyond the model's context. min_new_tokens: no end token before.
    do_sample: draw from the distribution instead of taking the likeliest token.
    temperature: logits are divided by it. top_k: only that many likeliest tokens, 0 is all.
    top_p: only the likeliest that hold this share together. min_p: only those at least this share
    of the likeliest one's probability. repetition_penalty: above 1, tokens that are already there
    become less likely. stop_strings: text that ends the answer and is not part of it. seed: the
    same seed, the same text, whatever the batch; None draws one. eos_token_id: tokens that end an
    answer. prompt_lookup_num_tokens: at most so many tokens are guessed from what the text has
    said before and verified at once (batch 1), 0 is none; the answer is the same in fp32, and where
    activations are rounded but for tokens that are about equally likely.
    max_matching_ngram_size: how many tokens in a row must be alike for a guess.
    """

    max_new_tokens: int = 256
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop_strings: tuple[str, ...] = ()
    seed: int | None = None
    eos_token_id: tuple[int, ...] = ()
    prompt_lookup_num_tokens: int = 0
    max_matching_ngram_size: int = 3

    @classmethod
    def of_model(cls, config: Mapping[str, Any], eos: Sequence[int] = ()) -> Self:
        """The defaults of a model: what its generation_config.json says, and its end tokens.

        Keys that are not options here are left alone. Raises BundleError for values that cannot
        be. A max_length counts the prompt, so it is no default of ours.
        """
        known = {name: config[name] for name in _names(cls) if config.get(name) is not None}
        if isinstance(known.get("eos_token_id"), int):
            known["eos_token_id"] = [known["eos_token_id"]]
        known.setdefault("eos_token_id", list(eos))
        known.pop("seed", None)
        if known.get("temperature") == 0 and not known.get("do_sample"):
            del known["temperature"]  # as transformers: nothing is drawn, so nothing is divided
        try:
            return cls()._with(known)
        except InputError as error:
            raise BundleError(f"generation_config.json cannot be used:\n{error}") from error

    def among(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of some values that are options here."""
        return {name: value for name, value in values.items() if name in _names(type(self))}

    def changed(self, **options: Any) -> Self:
        """These options with some of them changed; None leaves one as it is.

        Naming an option of sampling asks for sampling, unless do_sample says otherwise; a
        temperature of 0 asks for the likeliest tokens. Raises InputError with every problem.
        """
        given = {name: value for name, value in options.items() if value is not None}
        unknown = [name for name in given if name not in _names(type(self))]
        if unknown:
            known = ", ".join(_names(type(self)))
            raise InputError(f"unknown option {', '.join(unknown)}; generation has {known}")
        if given.get("temperature") == 0:
            if given.get("do_sample"):
                raise InputError("a temperature of 0 takes the likeliest token: it cannot sample")
            del given["temperature"]
            given["do_sample"] = False
        elif any(name in given for name in _SAMPLING):
            given.setdefault("do_sample", True)
        return self._with(given)

    def _with(self, given: Mapping[str, Any]) -> Self:
        values = dict(given)
        for name in ("stop_strings", "eos_token_id"):
            if name in values:
                one = isinstance(values[name], (str, int))
                many = [values[name]] if one else values[name]
                values[name] = tuple(many) if isinstance(many, Sequence) else many
        problems = [p for name, value in values.items() if (p := _problem(name, value))]
        if problems:
            raise InputError(listed(problems))
        return replace(self, **values)


def _names(cls: type) -> list[str]:
    return [f.name for f in fields(cls)]


_WHOLE = {
    "max_new_tokens": 1,
    "min_new_tokens": 0,
    "top_k": 0,
    "seed": 0,
    "prompt_lookup_num_tokens": 0,
}
"""Option -> its least value."""

_LONGEST_RUN = 64
"""Tokens that may have to be alike for a guess: runs of all lengths up to it are remembered."""


def _problem(name: str, value: Any) -> str | None:
    """What is wrong with the value of an option."""
    if name == "max_matching_ngram_size":
        good = type(value) is int and 1 <= value <= _LONGEST_RUN
        wanted = f"a whole number from 1 to {_LONGEST_RUN}"
    elif name in _WHOLE:
        good = type(value) is int and value >= _WHOLE[name]
        wanted = f"a whole number from {_WHOLE[name]}"
    elif name == "do_sample":
        good, wanted = isinstance(value, bool), "true or false"
    elif name == "temperature":
        good, wanted = (
            _is_number(value) and value > 0,
            "a number above 0 to sample, or 0 for the likeliest",
        )
    elif name == "repetition_penalty":
        good, wanted = _is_number(value) and value > 0, "a number above 0"
    elif name == "top_p":
        good, wanted = _is_number(value) and 0 < value <= 1, "a number above 0 and up to 1"
    elif name == "min_p":
        good, wanted = _is_number(value) and 0 <= value <= 1, "a number from 0 to 1"
    elif name == "stop_strings":
        good = isinstance(value, tuple) and all(isinstance(s, str) and s for s in value)
        wanted = "text, or a list of texts, none of them empty"
    else:
        good = isinstance(value, tuple) and all(type(i) is int and i >= 0 for i in value)
        wanted = "token ids"
    return None if good else f"{name} is {value!r:.60}, it must be {wanted}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
