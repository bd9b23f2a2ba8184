"""Translations come in the form of transformers' pipelines, and as they are written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import edgetfm
from edgetfm.cli import main
from edgetfm.errors import InputError
from edgetfm.runtime import Pipeline

TEXTS = ["Where does the river go ?", "Nobody sold the boat .", "It is slow ."]


@pytest.fixture(scope="module")
def pipe(tiny_writer_bundle: Callable[..., Any]) -> Pipeline:
    return edgetfm.pipeline(tiny_writer_bundle("t5-gated").bundle, threads=1)


def test_one_text_gives_a_list_of_one_and_many_a_list(pipe: Pipeline) -> None:
    (alone,) = pipe(TEXTS[0], max_new_tokens=6)
    together = pipe(TEXTS, max_new_tokens=6, batch_size=3)
    assert set(alone) == {"translation_text"}
    assert together[0] == alone
    assert together == pipe(TEXTS, max_new_tokens=6)
    assert len(together) == len(TEXTS)


def test_beams_find_several_answers(pipe: Pipeline) -> None:
    found = pipe(TEXTS[:2], max_new_tokens=5, num_beams=3, num_return_sequences=3)
    assert [len(answers) for answers in found] == [3, 3]
    assert len({a["translation_text"] for a in found[0]}) > 1
    assert found[1][0] == pipe(TEXTS[1], max_new_tokens=5, num_beams=3)[0]


def test_a_stream_says_what_a_call_says(pipe: Pipeline) -> None:
    for options in ({"max_new_tokens": 6}, {"max_new_tokens": 6, "num_beams": 3}):
        with pipe.stream(TEXTS[0], **options) as stream:
            pieces = list(stream)
        assert "".join(pieces).strip() == pipe(TEXTS[0], **options)[0]["translation_text"]


def test_the_models_config_says_what_stands_before_a_text(pipe: Pipeline) -> None:
    plain = pipe(f"the {TEXTS[0]}", prefix="", max_new_tokens=6)
    german = pipe(f"water {TEXTS[0]}", prefix="", max_new_tokens=6)
    assert pipe(TEXTS[0], max_new_tokens=6) == plain
    assert pipe(TEXTS[0], src_lang="en", tgt_lang="de", max_new_tokens=6) == german


def test_a_language_that_is_a_token_of_its_own_begins_the_answer(
    tiny_writer_bundle: Callable[..., Any],
) -> None:
    own = edgetfm.pipeline(tiny_writer_bundle("t5-gated").bundle, threads=1)
    with pytest.raises(InputError, match="how it translates from None to river"):
        own(TEXTS[0], tgt_lang="river")  # a piece of the vocabulary is no language
    own.asked.preprocessor.text_encoder.tokenizer.add_tokens(["river"])
    (answer,) = own(TEXTS[0], tgt_lang="river", max_new_tokens=3)
    assert answer["translation_text"].startswith("river")


def test_an_unknown_language_is_said_with_those_that_are_known(pipe: Pipeline) -> None:
    with pytest.raises(InputError, match="from en to xx; it knows en_to_de"):
        pipe(TEXTS[0], src_lang="en", tgt_lang="xx")


def test_texts_beyond_what_the_model_reads_are_cut_with_a_warning(pipe: Pipeline) -> None:
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than the 32 tokens"):
        pipe(["the river " * 40, TEXTS[0]], max_new_tokens=2)
    pipe("the river " * 40, max_new_tokens=2, max_length=20)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_return_sequences": 2}, "need beams"),
        ({"num_return_sequences": 4, "num_beams": 2}, "raise num_beams"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"beams": 2}, "has no option beams"),
    ],
)
def test_options_of_no_use_are_said(pipe: Pipeline, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        pipe(TEXTS[0], **given)


def test_inputs_that_are_no_texts_are_all_named(pipe: Pipeline) -> None:
    with pytest.raises(InputError, match=r"item 0 is int.*\n.*item 2 is NoneType"):
        pipe([3, "a text", None])


def test_a_question_and_its_context_become_one_text(pipe: Pipeline) -> None:
    whole = "question: Where ? context: the river"
    expected = pipe(whole, max_new_tokens=4)
    assert pipe(("Where ?", "the river"), max_new_tokens=4) == expected
    assert pipe({"question": "Where ?", "context": "the river"}, max_new_tokens=4) == expected


def test_run_prints_the_answer(pipe: Pipeline, capfd: pytest.CaptureFixture[str]) -> None:
    bundle = str(pipe.model.bundle.root)
    asked = ["run", bundle, TEXTS[0], "--max-new-tokens", "6", "--beams", "2", "--threads", "1"]
    assert main(asked) == 0
    wanted = pipe(TEXTS[0], max_new_tokens=6, num_beams=2)[0]["translation_text"]
    assert capfd.readouterr().out.strip() == wanted
    for flag, value in (("--language", "de"), ("--lookup", "3")):
        assert main([*asked, flag, value]) == 2
        assert f"{flag} is for" in capfd.readouterr().err
