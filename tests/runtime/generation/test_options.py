"""Options are transformers', with defaults of the model, and every problem is said at once."""

from __future__ import annotations

from typing import Any

import pytest

from edgetfm.errors import BundleError, InputError
from edgetfm.runtime.generation.options import GenerationOptions

DEFAULT = GenerationOptions()


def test_defaults_are_those_of_transformers() -> None:
    from transformers import GenerationConfig

    theirs = GenerationConfig._get_default_generation_params()
    for name in ("do_sample", "temperature", "top_k", "top_p", "repetition_penalty"):
        assert getattr(DEFAULT, name) == theirs[name], name


def test_a_model_has_defaults_of_its_own() -> None:
    config = {
        "temperature": 0.6, "top_p": 0.9, "do_sample": True, "eos_token_id": 7,
        "max_length": 20, "transformers_version": "5", "top_k": None, "seed": 3,
    }  # fmt: skip
    options = GenerationOptions.of_model(config)
    assert options.do_sample
    assert (options.temperature, options.top_p, options.top_k) == (0.6, 0.9, 50)
    assert options.eos_token_id == (7,)
    assert options.max_new_tokens == DEFAULT.max_new_tokens
    assert options.seed is None
    assert GenerationOptions.of_model({}, eos=[1, 2]).eos_token_id == (1, 2)
    assert GenerationOptions.of_model({"eos_token_id": [3]}, eos=[1]).eos_token_id == (3,)
    with pytest.raises(BundleError, match="top_p is 7"):
        GenerationOptions.of_model({"top_p": 7})


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "min_p"])
def test_naming_an_option_of_sampling_asks_for_sampling(name: str) -> None:
    value: Any = 5 if name == "top_k" else 0.5
    assert DEFAULT.changed(**{name: value}).do_sample
    assert not DEFAULT.changed(**{name: value, "do_sample": False}).do_sample
    assert not DEFAULT.changed(**{name: None}).do_sample


def test_a_temperature_of_zero_is_greedy() -> None:
    sampling = DEFAULT.changed(temperature=0.7)
    assert not sampling.changed(temperature=0).do_sample
    assert not DEFAULT.changed(temperature=0.0, top_p=0.9).do_sample
    with pytest.raises(InputError, match="cannot sample"):
        DEFAULT.changed(temperature=0, do_sample=True)


def test_a_model_that_never_samples_may_say_a_temperature_of_0() -> None:
    greedy = GenerationOptions.of_model({"temperature": 0.0, "do_sample": False})
    assert greedy == GenerationOptions.of_model({})
    with pytest.raises(
        BundleError, match=r"temperature is 0\.0, it must be a number above 0 to sample"
    ):
        GenerationOptions.of_model({"temperature": 0.0, "do_sample": True})


def test_one_stop_string_is_a_list_of_one() -> None:
    assert DEFAULT.changed(stop_strings="\n\n").stop_strings == ("\n\n",)
    assert DEFAULT.changed(stop_strings=["a", "b"], eos_token_id=4).eos_token_id == (4,)


def test_all_problems_are_said_at_once() -> None:
    wrong: dict[str, Any] = {
        "max_new_tokens": 0, "temperature": -1.0, "top_k": 2.5, "top_p": 0.0, "min_p": 2,
        "repetition_penalty": float("nan"), "stop_strings": [""], "seed": -1, "do_sample": "yes",
        "eos_token_id": [-1], "min_new_tokens": True, "prompt_lookup_num_tokens": -1,
    }  # fmt: skip
    with pytest.raises(InputError) as error:
        DEFAULT.changed(**wrong)
    for name in wrong:
        assert f"{name} is " in str(error.value)
    assert "temperature is -1.0, it must be a number above 0 to sample, or 0 for" in str(
        error.value
    )
    with pytest.raises(InputError, match="unknown option tempereture"):
        DEFAULT.changed(tempereture=1.0)


def test_runs_of_tokens_have_an_end() -> None:
    with pytest.raises(BundleError, match="from 1 to 64"):
        GenerationOptions.of_model({"max_matching_ngram_size": 10**9})
    with pytest.raises(InputError, match="from 1 to 64"):
        GenerationOptions().changed(max_matching_ngram_size=0)
