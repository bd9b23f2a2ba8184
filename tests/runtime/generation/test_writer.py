"""Pipelines for text-generation answer in Hugging Face's form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgetfm import pipeline
from edgetfm.bundle import BundleWriter, open_bundle
from edgetfm.errors import BundleError, InputError
from edgetfm.runtime.generation.conversation import Conversation
from edgetfm.runtime.pipelines import Pipeline

CHAT = [{"role": "user", "content": "Where does the water go?"}]


@pytest.fixture(scope="module")
def made(tiny_decoder_bundle: Callable[..., Any]) -> Any:
    return tiny_decoder_bundle("llama")


@pytest.fixture(scope="module")
def pipe(made: Any) -> Pipeline:
    return pipeline(made.bundle, threads=1)


@pytest.fixture(scope="module")
def theirs(made: Any) -> Any:
    import transformers

    return transformers.pipeline("text-generation", model=str(made.source), device="cpu")


@pytest.fixture
def changed(made: Any, tmp_path: Path) -> Callable[..., Path]:
    """The bundle with some of its files and of its manifest's generation changed."""

    def make(files: dict[str, str | None], **generation: Any) -> Path:
        from dataclasses import replace

        opened = open_bundle(made.bundle)
        target = tmp_path / "changed"
        with BundleWriter(target, force=True) as writer:
            for name in opened.manifest.files:
                if name not in files:
                    writer.copy(opened.root / name, name)
            for name, text in files.items():
                if text is not None:
                    writer.write(name, text)
            generation = opened.manifest.generation | generation
            writer.commit(replace(opened.manifest, generation=generation))
        return target

    return make


def test_prompts_and_chats_are_answered_as_by_transformers(
    pipe: Pipeline, theirs: Any, texts: list[str]
) -> None:
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False}
    assert pipe(texts[0], **options) == theirs(texts[0], **options)
    assert pipe(texts[:2], **options) == theirs(texts[:2], **options)
    assert pipe(CHAT, **options) == theirs(CHAT, **options)
    assert pipe([CHAT, CHAT], **options) == theirs([CHAT, CHAT], **options)
    begun = [*CHAT, {"role": "assistant", "content": "It flows"}]
    assert pipe(begun, **options) == theirs(begun, **options)
    for prompt in (texts[1], CHAT):
        wanted = theirs(prompt, return_full_text=False, **options)
        assert pipe(prompt, return_full_text=False, **options) == wanted
    assert pipe([]) == []


def test_a_batch_gives_the_text_of_each_prompt_alone(pipe: Pipeline, texts: list[str]) -> None:
    prompts = [text[: 5 + 7 * (i % 9)] for i, text in enumerate(texts * 4)]
    for options in ({}, {"temperature": 0.7, "seed": 2}):
        alone = [pipe(prompt, max_new_tokens=10, **options) for prompt in prompts]
        assert pipe(prompts, max_new_tokens=10, batch_size=8, **options) == alone


def test_a_stream_is_the_text_in_pieces(pipe: Pipeline, texts: list[str]) -> None:
    (whole,) = pipe(texts[0], max_new_tokens=20, return_full_text=False)
    stream = pipe.stream(texts[0], max_new_tokens=20)
    said = list(stream)
    assert len(said) > 1
    assert "".join(said) == stream.text == whole["generated_text"]
    assert stream.reason == "length"
    assert len(stream.tokens) == 20
    with pipe.stream(CHAT, max_new_tokens=20) as stream:
        next(stream)
    assert list(stream) == []
    assert stream.reason is None


def test_a_stream_that_is_stopped_keeps_what_it_read(pipe: Pipeline, texts: list[str]) -> None:
    stream = pipe.stream(texts[0], max_new_tokens=50)
    next(stream)
    stream.stop()
    list(stream)
    assert stream.reason == "cancelled"
    assert len(stream.tokens) < 50
    kept = pipe.asked.writer.generator.kept_tokens
    assert kept[: stream.prompt_tokens] == tuple(pipe.asked.writer.ids(texts[0]))
    stream = pipe.stream(texts[1])
    stream.stop()
    assert list(stream) == []
    assert stream.reason == "cancelled"


def test_an_answer_ends_before_a_stop_string(pipe: Pipeline, texts: list[str]) -> None:
    (whole,) = pipe(texts[2], max_new_tokens=30, return_full_text=False)
    text = whole["generated_text"]
    tokens = pipe.stream(texts[2], max_new_tokens=30)
    pieces = list(tokens)
    across = "".join(pieces[3:5])[-3:] + pieces[5][:2]  # it begins in one token, ends in another
    stream = pipe.stream(texts[2], max_new_tokens=30, stop_strings=[across, "never there"])
    assert "".join(stream) == text[: text.index(across)]
    assert stream.reason == "stop string"
    (same,) = pipe(texts[2], max_new_tokens=30, return_full_text=False, stop_strings=across)
    assert same["generated_text"] == stream.text


def test_several_answers_to_one_prompt_differ(pipe: Pipeline, texts: list[str]) -> None:
    options: dict[str, Any] = {"max_new_tokens": 12, "temperature": 1.5, "seed": 4}
    answers = pipe(texts[0], num_return_sequences=3, **options)
    assert len({answer["generated_text"] for answer in answers}) == 3
    assert pipe(texts[0], num_return_sequences=3, batch_size=3, **options) == answers
    assert pipe(texts[0], **options) == answers[:1]
    with pytest.raises(InputError, match="need sampling"):
        pipe(texts[0], num_return_sequences=2)


def test_what_is_no_prompt_is_said(pipe: Pipeline, texts: list[str]) -> None:
    for wrong, said in (
        (5, "expected a text, a chat"),
        ([texts[0], 7], "prompt 1 is int"),
        ([{"role": "user"}], "message 0"),
        ("", "the prompt is empty, and the model has no token to start with"),
        ("word " * 400, "leaves no room for an answer in the model's context of"),
        ("\ud800", "not Unicode"),
    ):
        with pytest.raises(InputError, match=said):
            pipe(wrong)
    with pytest.raises(InputError, match="no option temprature"):
        pipe(texts[0], temprature=1.0)
    with pytest.raises(InputError, match="answers one prompt"):
        pipe.stream(texts)
    with pytest.raises(InputError, match="batch_size is 0"):
        pipe(texts, batch_size=0)


def test_an_empty_prompt_is_the_models_first_token(
    pipe: Pipeline, changed: Callable[..., Path]
) -> None:
    begun = pipeline(changed({}, bos=7), threads=1)
    (answer,) = begun("", max_new_tokens=5)
    rows = begun.asked.writer.row("", begun.asked.writer.defaults)
    assert rows.prompt == [7]
    assert answer["generated_text"]


def test_a_broken_template_ends_in_a_sentence_with_its_line(changed: Callable[..., Path]) -> None:
    template = "{% for m in messages %}\n{{ m.x + 1 }}\n{% endfor %}"
    broken = pipeline(changed({"chat_template.jinja": template}))
    with pytest.raises(BundleError, match=r"broken \(chat_template.jinja, line 2\)"):
        broken(CHAT)
    assert broken("It flows", max_new_tokens=2)
    bare = pipeline(changed({"chat_template.jinja": None, "tokenizer_config.json": "{}"}))
    with pytest.raises(InputError, match="no chat template"):
        bare(CHAT)
    with pytest.raises(InputError, match="no chat template"):
        Conversation(bare.asked.writer, bare.asked.writer.defaults)


def test_the_models_defaults_hold(changed: Callable[..., Path], texts: list[str]) -> None:
    config = {"do_sample": True, "temperature": 3.0, "max_new_tokens": 6, "eos_token_id": 0}
    wild = pipeline(changed({"generation_config.json": json.dumps(config)}), threads=1)
    said = {wild(texts[0], seed=seed)[0]["generated_text"] for seed in range(4)}
    assert len(said) > 1
    assert wild(texts[0], temperature=0) == wild(texts[0], do_sample=False)
    broken = changed({"generation_config.json": json.dumps({"temperature": "hot"})})
    with pytest.raises(BundleError, match="temperature is 'hot'"):
        pipeline(broken)(texts[0])
    malformed = changed({}, context=0, eos="x")
    with pytest.raises(BundleError, match="context is 0"):
        pipeline(malformed)(texts[0])


def test_only_decoders_have_a_stream(pipe: Pipeline) -> None:
    with pytest.raises(InputError, match="have a stream"):
        Pipeline("fill-mask", pipe.asked).stream("x")


# --- conversations ------------------------------------------------------------------------------


def test_a_conversation_is_the_chat_so_far(pipe: Pipeline) -> None:
    writer = pipe.asked.writer
    talk = Conversation(writer, writer.defaults.changed(max_new_tokens=5), system="Be brief.")
    first = "".join(talk.answer("Hi"))
    second = "".join(talk.answer("And?"))
    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": first},
        {"role": "user", "content": "And?"},
    ]
    assert talk.messages == [*chat, {"role": "assistant", "content": second}]
    (wanted,) = pipe(chat, max_new_tokens=5, return_full_text=False)
    assert wanted["generated_text"] == second


def test_what_no_longer_fits_the_context_is_left_out(pipe: Pipeline) -> None:
    writer = pipe.asked.writer
    talk = Conversation(writer, writer.defaults.changed(max_new_tokens=8), system="S")
    for number in range(8):
        list(talk.answer(f"{number} the old captain sold his boat"))
    assert talk.left_out > 0
    assert talk.left_out % 2 == 0
    assert len(talk.messages) == 17
    with pytest.raises(InputError, match="leaves no room"):
        talk.answer("word " * 400)
    assert "".join(talk.answer("on")) == talk.messages[-1]["content"]
