"""Text is generated as transformers generates it, whatever the batch, the cache or the guesses."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetfm.errors import BundleError, InputError
from edgetfm.runtime.generation import generator as module
from edgetfm.runtime.generation.cache import slots
from edgetfm.runtime.generation.decoder import Binding, Decoder
from edgetfm.runtime.generation.generator import Generator
from edgetfm.runtime.generation.options import GenerationOptions
from edgetfm.runtime.generation.rows import Row
from edgetfm.runtime.model import load
from edgetfm.signature import Signature, TensorSpec

NEW = 24
LENGTHS = (3, 20, 1, 50, 7, 12)


@pytest.fixture(scope="module")
def decoder(tiny_decoder_bundle: Callable[..., Any]) -> Callable[[str], Decoder]:
    @cache
    def get(model_type: str) -> Decoder:
        return Decoder(load(tiny_decoder_bundle(model_type).bundle, threads=1))

    return get


@pytest.fixture(scope="module")
def llama(decoder: Callable[[str], Decoder]) -> Decoder:
    return decoder("llama")


def prompts(vocabulary: int, lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    random = np.random.default_rng(1)
    return [random.integers(5, vocabulary, n).tolist() for n in lengths]


def generate(
    generator: Generator | Decoder, given: list[list[int]], **options: Any
) -> list[list[int]]:
    writing = Generator(generator) if isinstance(generator, Decoder) else generator
    chosen = GenerationOptions().changed(**({"max_new_tokens": NEW} | options))
    rows = [Row(ids, chosen) for ids in given]
    for _ in writing.write(rows):
        pass
    return [row.tokens for row in rows]


OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in ("gpt2", "qwen3", "gemma3_text")]


@pytest.mark.parametrize("model_type", ["llama", "mistral", *OTHERS])
@pytest.mark.parametrize("penalty", [1.0, 1.4])
def test_greedy_tokens_are_those_of_transformers(
    decoder: Callable[[str], Decoder],
    tiny_decoder_bundle: Callable[..., Any],
    model_type: str,
    penalty: float,
) -> None:
    import torch
    import transformers

    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tiny_decoder_bundle(model_type).source, attn_implementation="eager"
    ).eval()
    ours = decoder(model_type)
    for ids in prompts(ours.vocabulary)[:4]:
        wanted = theirs.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=NEW,
            do_sample=False, repetition_penalty=penalty,
        )[0, len(ids) :].tolist()  # fmt: skip
        said = generate(ours, [ids], repetition_penalty=penalty, eos_token_id=ours.eos)[0]
        assert said == wanted


@pytest.mark.parametrize("model_type", ["llama", "mistral"])
@pytest.mark.parametrize(
    "options", [{}, {"temperature": 0.8, "seed": 5}, {"top_p": 0.9, "seed": 6, "min_p": 0.01}]
)
def test_a_batch_gives_what_rows_give_alone(
    decoder: Callable[[str], Decoder], model_type: str, options: dict[str, Any]
) -> None:
    made = decoder(model_type)
    given = prompts(made.vocabulary)
    alone = [generate(made, [ids], **options)[0] for ids in given]
    assert generate(made, given, **options) == alone
    assert generate(made, given[::-1], **options) == alone[::-1]


@pytest.mark.parametrize("together", [1, 8, 1000])
@pytest.mark.parametrize("chunk", [7, 512])
def test_how_a_batchs_prompts_are_read_changes_nothing(
    llama: Decoder, monkeypatch: pytest.MonkeyPatch, together: int, chunk: int
) -> None:
    given = prompts(llama.vocabulary)
    alone = [generate(llama, [ids])[0] for ids in given]
    monkeypatch.setattr(module, "TOGETHER", together)
    monkeypatch.setattr(module, "CHUNK", chunk)
    assert generate(llama, given) == alone


def test_rows_that_ended_cost_nothing_more(llama: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    widths = []
    original = Binding.step

    def counting(self: Binding, tokens: Any, lengths: Any, *, every: bool = False) -> Any:
        widths.append(len(tokens))
        return original(self, tokens, lengths, every=every)

    given = prompts(llama.vocabulary)
    rows = [Row(ids, GenerationOptions(max_new_tokens=2 + 4 * i)) for i, ids in enumerate(given)]
    alone = [generate(llama, [r.prompt], max_new_tokens=r.options.max_new_tokens)[0] for r in rows]
    monkeypatch.setattr(Binding, "step", counting)
    for _ in Generator(llama).write(rows):
        pass
    assert [row.tokens for row in rows] == alone
    assert widths[-1] == 1
    assert sorted(set(widths[len(given) :]), reverse=True) == [6, 3, 1]


def test_rows_end_on_their_own(llama: Decoder) -> None:
    given = prompts(llama.vocabulary)
    free = generate(llama, given)
    ends = (free[0][2], free[3][9])
    wanted = [tokens[: next((i + 1 for i, t in enumerate(tokens) if t in ends), NEW)]
              for tokens in free]  # fmt: skip
    assert len({len(tokens) for tokens in wanted}) > 1
    assert generate(llama, given, eos_token_id=ends) == wanted
    assert [generate(llama, [ids], eos_token_id=ends)[0] for ids in given] == wanted


@pytest.mark.parametrize("model_type", ["llama", "mistral"])
@pytest.mark.parametrize("chunk", [1, 7, 49, 50])
def test_a_prompt_read_in_pieces_is_the_same_prompt(
    decoder: Callable[[str], Decoder],
    monkeypatch: pytest.MonkeyPatch,
    model_type: str,
    chunk: int,
) -> None:
    made = decoder(model_type)
    given = [prompts(made.vocabulary)[3]]
    wanted = generate(made, given)
    monkeypatch.setattr(module, "CHUNK", chunk)
    assert generate(made, given) == wanted


def test_what_two_prompts_share_is_read_once(llama: Decoder) -> None:
    long = prompts(llama.vocabulary)[3]
    generator, read = Generator(llama), []
    original = Binding.step

    def counting(self: Binding, tokens: Any, lengths: Any, *, every: bool = False) -> Any:
        read.append(tokens.shape[1])
        return original(self, tokens, lengths, every=every)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Binding, "step", counting)
        (first,) = generate(generator, [long[:40]])
        assert read[0] == 40
        assert generator.kept_tokens == (*long[:40], *first[:-1])
        for prompt, new in (
            ([*long[:40], *first, 9, 8, 7], 4),  # a chat that goes on: the last token and three
            (long, 10),  # another end
            (long, 2),  # the same again: its last two tokens are read for the logits
            (long[:5], 2),
            (long[20:], 30),  # nothing in common
            ([*long[20:], *long], 50),  # more room is needed
        ):
            read.clear()
            said = generate(generator, [prompt])
            assert read[0] == new, prompt
            assert said == generate(Generator(llama), [prompt])


@pytest.mark.parametrize("options", [{}, {"temperature": 0.3, "seed": 1}, {"eos_token_id": [40]}])
def test_guesses_change_nothing(llama: Decoder, options: dict[str, Any]) -> None:
    said = [5, 9, 5, 9, 30, 31, 32, 5, 9]
    for given in ([said], [said * 4], *([p] for p in prompts(llama.vocabulary))):
        wanted = generate(llama, given, max_new_tokens=60, **options)
        for most in (1, 4, 20):
            assert wanted == generate(
                llama, given, max_new_tokens=60, prompt_lookup_num_tokens=most, **options
            )


def test_right_guesses_save_steps(llama: Decoder) -> None:
    steps = []
    original = Binding.step

    def counting(self: Binding, tokens: Any, lengths: Any, *, every: bool = False) -> Any:
        steps.append(tokens.shape[1])
        return original(self, tokens, lengths, every=every)

    (plain,) = generate(llama, [[7, 8]], max_new_tokens=100)
    repeated = [7, 8, *plain[:90]]  # what it says next is in the prompt already
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Binding, "step", counting)
        generate(llama, [[*repeated[:40], 7, 8]], max_new_tokens=30)
        without = len(steps)
        steps.clear()
        generate(llama, [[*repeated[:40], 7, 8]], max_new_tokens=30, prompt_lookup_num_tokens=8)
    assert len(steps) <= without


def test_the_context_is_never_left(llama: Decoder) -> None:
    context = llama.context
    (ids,) = prompts(llama.vocabulary, (context - 5,))
    row = Row(ids, GenerationOptions(max_new_tokens=50))
    for _ in Generator(llama).write([row]):
        pass
    assert len(row.tokens) == 5
    assert row.reason == "context"
    guessing = Row(ids, GenerationOptions(max_new_tokens=50, prompt_lookup_num_tokens=20))
    for _ in Generator(llama).write([guessing]):
        pass
    assert guessing.tokens == row.tokens


@pytest.mark.parametrize("model_type", ["llama", pytest.param("gpt2", marks=pytest.mark.slow)])
def test_a_context_beyond_the_graphs_tables_is_said_before_a_word(
    tiny_decoder_bundle: Callable[..., Any], tmp_path: Path, model_type: str
) -> None:
    """Of rotary angles, and of learned positions."""
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_decoder_bundle(model_type).bundle, bundle)
    manifest = json.loads((bundle / "edgetfm.json").read_text())
    tables = manifest["generation"]["context"]
    manifest["generation"]["context"] = 4 * tables
    (bundle / "edgetfm.json").write_text(json.dumps(manifest))
    writing = Generator(Decoder(load(bundle, threads=1)))
    assert len(generate(writing, [[5, 6]], max_new_tokens=tables - 2)[0]) == tables - 2
    rows = [Row([5, 6], GenerationOptions(max_new_tokens=tables - 1))]
    with pytest.raises(BundleError, match=f"context of {4 * tables} tokens.*does not reach"):
        writing.write(rows)
    assert rows[0].tokens == []


def test_what_is_no_prompt_is_refused_at_once(llama: Decoder) -> None:
    def refused(*given: list[int], **options: Any) -> str:
        with pytest.raises(InputError) as error:
            generate(llama, list(given), **options)
        return str(error.value)

    assert f"leaves no room for an answer in the model's context of {llama.context}" in refused(
        [5] * llama.context
    )
    assert "the prompt is empty" in refused([])
    assert f"the token 100000: the model's are 0 to {llama.vocabulary - 1}" in refused([100000])
    several = refused([-1], [], [5], [5] * 500)
    assert all(f"prompt {i} " in several for i in (0, 1, 3))
    assert "one prompt at a time" in refused([5], [6], prompt_lookup_num_tokens=3)


def test_a_stream_that_is_closed_frees_its_cache(llama: Decoder) -> None:
    generator = Generator(llama)
    caches: list[weakref.ref[Any]] = []
    original = Decoder.cache

    def watched(self: Decoder, batch: int, capacity: int) -> Any:
        made = original(self, batch, capacity)
        caches.append(weakref.ref(made))
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decoder, "cache", watched)
        for rows in (1, 3):
            given = prompts(llama.vocabulary)[:rows]
            steps = generator.write([Row(ids, GenerationOptions()) for ids in given])
            next(steps)
            next(steps)
            assert caches[-1]() is not None
            steps.close()  # type: ignore[attr-defined]
            del steps
            gc.collect()
            assert caches[-1]() is None
        generate(generator, prompts(llama.vocabulary)[:1])
        assert caches[-1]() is not None  # for the next prompt
        generator.forget()
        gc.collect()
        assert caches[-1]() is None
    assert generator.kept_tokens == ()


def test_an_interrupt_in_a_step_frees_it_too(llama: Decoder) -> None:
    generator, count = Generator(llama), 0
    original = Binding.step

    def interrupted(self: Binding, tokens: Any, lengths: Any, *, every: bool = False) -> Any:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return original(self, tokens, lengths, every=every)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Binding, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            generate(generator, prompts(llama.vocabulary)[:1])
    assert generator.kept_tokens == ()
    given = prompts(llama.vocabulary)[1:2]
    assert generate(generator, given) == generate(llama, given)


def test_two_answers_can_be_written_in_turns(llama: Decoder) -> None:
    generator = Generator(llama)
    given = prompts(llama.vocabulary)[:2]
    wanted = [generate(llama, [ids])[0] for ids in given]
    rows = [Row(ids, GenerationOptions(max_new_tokens=NEW)) for ids in given]
    for _ in zip(*(generator.write([row]) for row in rows), strict=True):
        pass
    assert [row.tokens for row in rows] == wanted


def test_a_graph_without_a_cache_is_refused() -> None:
    past = TensorSpec("past_key_values.0.key", "float32", ("batch", "heads", "past", 16))
    for inputs in ((), (past,)):
        with pytest.raises(BundleError, match="no cache that can be kept"):
            slots(Signature(inputs, ()))


def test_a_cache_that_no_memory_holds_is_refused(llama: Decoder) -> None:
    for capacity in (10**13, 10**19):
        with pytest.raises(InputError, match=f"no memory for 1 x {capacity} tokens"):
            llama.cache(1, capacity)
