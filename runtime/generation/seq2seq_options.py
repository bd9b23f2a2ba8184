"""How an encoder-decoder writes: the options of every generator, and those of beam search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from edgetfm.errors import InputError, listed
from edgetfm.runtime.generation.options import GenerationOptions

_MOST_BEAMS = 64
"""Each is a row of the batch, with a cache of its own."""


@dataclass(frozen=True)
class Seq2SeqOptions(GenerationOptions):
    """The options of GenerationOptions, and of beam search.

    num_beams: how many answers are kept while searching for the best, 1 takes the likeliest token
    each time. length_penalty: an answer's log probability is divided by its length to this power.
    early_stopping: True ends when `num_beams` answers are whole; False when the others will hardly
    be better; "never" when they cannot be. no_repeat_ngram_size: no run of so many tokens comes
    twice, 0 is any.
    """

    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool | str = False
    no_repeat_ngram_size: int = 0

    @classmethod
    def of_model(cls, config: Mapping[str, Any], eos: Sequence[int] = ()) -> Self:
        """The defaults of a model. A max_length and min_length count the one token of the start."""
        known = dict(config)
        for length, new in (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens")):
            value = known.get(length)
            if type(value) is int and value > 1 and known.get(new) is None:
                known[new] = value - 1
        return super().of_model(known, eos)

    def _with(self, given: Mapping[str, Any]) -> Self:
        own = {name: given[name] for name in _ALLOWED if name in given}
        made = super()._with({k: v for k, v in given.items() if k not in own})
        problems = [
            f"{name} is {value!r:.60}, it must be {_ALLOWED[name]}"
            for name, value in own.items()
            if not _fits(name, value)
        ]
        if not problems and "length_penalty" in own:
            own["length_penalty"] = float(own["length_penalty"])  # integers have no largest power
        changed = replace(made, **own)
        if changed.prompt_lookup_num_tokens:
            problems.append("prompt_lookup_num_tokens is for models that go on from a prompt")
        if not problems and changed.num_beams > 1 and changed.do_sample:
            problems.append("beam search takes the likeliest answers: it cannot sample")
        if problems:
            raise InputError(listed(problems))
        return changed


_ALLOWED = {
    "num_beams": f"a whole number from 1 to {_MOST_BEAMS}",
    "length_penalty": "a number from -100 to 100",
    "early_stopping": "true, false or 'never'",
    "no_repeat_ngram_size": "a whole number from 0",
}


def _fits(name: str, value: Any) -> bool:
    if name == "length_penalty":
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and -100 <= value <= 100  # NaN is neither
    if name == "early_stopping":
        return isinstance(value, bool) or value == "never"
    least, most = (1, _MOST_BEAMS) if name == "num_beams" else (0, 1 << 16)
    return type(value) is int and least <= value <= most
