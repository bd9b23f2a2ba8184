"""A text of any length in segments: the same answers as in one call, in memory of one size."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetfm.cli import main
from edgetfm.errors import InputError, SourceError
from edgetfm.models.memory import FAMILY
from edgetfm.runtime.generation.decoder import Decoder
from edgetfm.runtime.generation.generator import Generator
from edgetfm.runtime.generation.options import GenerationOptions
from edgetfm.runtime.generation.rows import Row
from edgetfm.runtime.model import load
from edgetfm.signature import Feeds
from edgetfm.sources import eager, open_source
from tests.memory_model import make_tiny_memory
from tests.plain import export_plain

MEMORY, KEPT, VOCABULARY = 24, 16, 300
LIMIT = 1e-5
"""Of the largest difference of a logit, as a share of the largest logit."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    return make_tiny_memory(tmp_path_factory.mktemp("memory") / "source", texts=texts)


@pytest.fixture(scope="module")
def bundle(source: Path) -> Path:
    return export_plain(source, source.parent / "bundle").bundle


@pytest.fixture(scope="module")
def runs(source: Path, bundle: Path) -> dict[str, Callable[[Feeds], Feeds]]:
    model = load(bundle, threads=1)
    return {"module": eager(open_source(source).module()), "graph": model.session.run}


def tokens(length: int, rows: int = 1) -> np.ndarray:
    return np.random.default_rng(length).integers(5, VOCABULARY, (rows, length))


def nothing(rows: int = 1) -> Feeds:
    names = [f"past_key_values.{i}.memory" for i in range(2)]
    return {name: np.zeros((rows, 1, 0, KEPT), np.float32) for name in names}


def step(run: Any, ids: np.ndarray, lengths: Any, past: Feeds) -> tuple[np.ndarray, Feeds]:
    """The logits of a segment and the memory after it; lengths count a row's tokens so far."""
    lengths = np.array(lengths)
    mask = (np.arange(max(lengths.max(), ids.shape[1])) < lengths[:, None]).astype(np.int64)
    feeds = {"input_ids": ids, "attention_mask": mask, "num_logits_to_keep": np.array(0)}
    answer = run(feeds | past)
    memory = {
        n.replace("present", "past_key_values"): a for n, a in answer.items() if n != "logits"
    }
    return answer["logits"], memory


def close(got: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.abs(got - wanted).max() <= LIMIT * np.abs(wanted).max())


@pytest.mark.parametrize("how", ["module", "graph"])
@settings(deadline=None, max_examples=12)
@given(
    length=st.integers(2, 120),
    cuts=st.lists(st.integers(1, 119), max_size=6),
    forgetful=st.booleans(),
)
def test_segments_have_the_logits_of_one_call(
    runs: Any, how: str, length: int, cuts: list[int], forgetful: bool
) -> None:
    """Also if the mask counts only as many tokens as are remembered."""
    ids, run = tokens(length), runs[how]
    whole, _ = step(runs["module"], ids, [length], nothing())
    past, parts = nothing(), []
    for start, end in pairwise([0, *sorted({c for c in cuts if c < length}), length]):
        known = end - start + (min(start, MEMORY) if forgetful else start)
        logits, past = step(run, ids[:, start:end], [known], past)
        assert {a.shape for a in past.values()} == {(1, 1, MEMORY, KEPT)}
        parts.append(logits)
    assert close(np.concatenate(parts, axis=1), whole)


@pytest.mark.parametrize("how", ["module", "graph"])
def test_rows_of_a_ragged_batch_remember_what_each_of_them_had(runs: Any, how: str) -> None:
    run, lengths = runs[how], [40, 9, 1]
    ids = tokens(43, rows=3)
    first, past = step(run, ids[:, :40], lengths, nothing(3))
    steps = []
    for grown in range(3):
        here = [n + grown for n in lengths]
        logits, past = step(run, ids[np.arange(3), here][:, None], [n + 1 for n in here], past)
        steps.append(logits[:, 0])
    for row, n in enumerate(lengths):
        alone, _ = step(runs["module"], ids[row : row + 1, : n + 3], [n + 3], nothing())
        assert close(first[row, :n], alone[0, :n])
        assert close(np.stack(steps)[:, row], alone[0, n:])


def test_a_token_reaches_as_far_as_layers_times_memory_and_no_farther(runs: Any) -> None:
    ids = tokens(120)
    logits, _ = step(runs["module"], ids, [120], nothing())
    changed = ids.copy()
    changed[0, 10] += 1
    others, _ = step(runs["module"], changed, [120], nothing())
    moved = np.flatnonzero(np.abs(others - logits).max(axis=(0, 2)))
    assert moved.min() == 10
    assert 10 + MEMORY < moved.max() <= 10 + 2 * MEMORY


@pytest.fixture(scope="module")
def decoder(bundle: Path) -> Decoder:
    return Decoder(load(bundle, threads=1))


def written(generator: Generator, prompts: list[list[int]], new: int = 6) -> list[list[int]]:
    options = GenerationOptions().changed(max_new_tokens=new, eos_token_id=0)
    rows = [Row(ids, options) for ids in prompts]
    for _ in generator.write(rows):
        pass
    return [row.tokens for row in rows]


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    return [tokens(n)[0].tolist() for n in (3, 20, 1, 1300, 31)]


def test_answers_are_those_of_the_module_whatever_stands_beside_them(
    runs: Any, decoder: Decoder, prompts: list[list[int]]
) -> None:
    alone = [written(Generator(decoder), [p])[0] for p in prompts]
    assert written(Generator(decoder), prompts) == alone
    assert written(Generator(decoder), prompts[:3]) == alone[:3]  # short ones are read at once
    for prompt, answer in zip(prompts, alone, strict=True):
        text = np.array([[*prompt, *answer]])
        logits, _ = step(runs["module"], text, [text.shape[1]], nothing())
        assert logits[0, len(prompt) - 1 : -1].argmax(-1).tolist() == answer


def test_a_prompt_that_goes_on_is_read_on_and_another_one_anew(
    decoder: Decoder, prompts: list[list[int]]
) -> None:
    generator = Generator(decoder)
    (answer,) = written(generator, prompts[3:4])
    longer = [*prompts[3], *answer, *prompts[1]]
    assert generator.kept_tokens == tuple(longer[: len(generator.kept_tokens)])
    assert written(generator, [longer]) == written(Generator(decoder), [longer])
    shorter = prompts[3][:1000]
    assert written(generator, [shorter]) == written(Generator(decoder), [shorter])


def test_a_state_has_one_size_whatever_was_read(decoder: Decoder) -> None:
    sizes = {sum(a.nbytes for a in decoder.cache(1, n).arrays) for n in (8, 100_000)}
    assert sizes == {2 * MEMORY * KEPT * 4}


def test_guesses_are_refused_because_a_memory_cannot_forget(decoder: Decoder) -> None:
    options = GenerationOptions().changed(max_new_tokens=2, prompt_lookup_num_tokens=3)
    with pytest.raises(InputError, match="a memory, which cannot forget"):
        Generator(decoder).write([Row([5, 6, 7], options)])


def test_a_memory_of_nothing_is_refused() -> None:
    with pytest.raises(SourceError, match=r"(?s)memory is 0.*segment is 0"):
        FAMILY.config(vocabulary=9, width=8, layers=1, heads=2, inner=8, memory=0, segment=0)


@pytest.mark.slow
def test_the_command_line_exports_quantizes_proves_and_runs_it(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target, long = tmp_path / "bundle", tmp_path / "long.txt"
    long.write_text("The river would rise again. " * 400, encoding="utf-8")
    for precision in ("int8-weight", "int4"):
        export = ["export", str(source), "-o", str(target), "--quantize", precision, "--force"]
        assert main([*export, "--max-drop", "perplexity:0.1"]) == 0
        assert main(["verify", str(target)]) == 0
        capfd.readouterr()
        assert main(["run", str(target), "--file", str(long), "--max-new-tokens", "5"]) == 0
        assert capfd.readouterr().out.strip()
