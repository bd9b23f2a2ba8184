"""Transformers.js in Node opens a bundle's folder without options, and answers as edgetfm does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetfm import pipeline
from tests.interop.programs import BOUNDS, HERE, Bundles, available, distance, run
from tests.interop.rows import CASES, DIGITS, MATCHES, MINILM, Case

ASKED = [(case, p) for case in CASES if case.pipeline for p in case.precisions]

Replies = dict[tuple[Case, str], list[Any]]

OPTIONS = {
    "text-classification": {"top_k": None},
    "image-classification": {"top_k": 10},
    "fill-mask": {"top_k": 3},
    "token-classification": {"ignore_labels": []},
    "text-generation": {"max_new_tokens": 12, "do_sample": False},
    "zero-shot-image-classification": {"hypothesis_template": "{}"},
}
"""How much is asked for; which file is opened, and how, is the bundle's own business."""


@pytest.fixture(scope="module")
def sized(pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], str]:
    """sized(pixels): a photograph of this size. Transformers.js resizes by other filters."""
    from PIL import Image

    def make(pixels: int) -> str:
        path = tmp_path_factory.getbasetemp() / f"{pixels}.png"
        Image.open(pictures[0]).resize((pixels, pixels)).save(path)
        return str(path)

    return make


@pytest.fixture(scope="module")
def inputs(
    texts: list[str], sized: Callable[[int], str], digits: tuple[Any, Path]
) -> Callable[[Case], list[Any]]:
    """inputs(case): what is asked, one after the other."""

    def of(case: Case) -> list[Any]:
        if case is DIGITS:
            return [str(path) for path in sorted(digits[1].glob("*/*.png"))[::40]]
        if case is MATCHES:
            return [(sized(32), ["one circle", "two squares and a triangle", "a boat"])]
        if case.task.startswith("image"):
            return [sized(40 if case.model == "deit" else 32)]
        if case.task == "question-answering":
            # Short ones: edgetfm reads a long context in windows, Transformers.js its beginning.
            return [("Who sold the boat?", texts[0]), ("Is it slow?", "A slow, quiet film.")]
        if case.task == "text-generation":
            return [text[:20] for text in texts]
        if case.task == "fill-mask":
            mask = "<mask>" if case.model == "mpnet" else "[MASK]"
            return [text.replace("river", mask).replace("boat", mask) for text in texts[:2]]
        # No text is too long: Transformers.js cuts off the token that ends it, too.
        return [text[:50] for text in texts]

    return of


@pytest.fixture(scope="module")
def replies(bundles: Bundles, node_folder: Path, inputs: Callable[[Case], list[Any]]) -> Replies:
    """What Transformers.js answers about the bundles, in one process."""
    node = shutil.which("node")
    program = available(lambda: Path(node or missing()))
    jobs = [
        {
            "pipeline": case.pipeline,
            "bundle": str(bundles(case, precision)),
            "inputs": [words if isinstance(words, tuple) else [words] for words in inputs(case)],
            "options": OPTIONS.get(case.task, {}),
        }
        for case, precision in ASKED
    ]
    printed = run([program, HERE / "in_node.mjs"], given=jobs, folder=node_folder)
    return dict(zip(ASKED, json.loads(printed), strict=True))


def missing() -> str:
    raise FileNotFoundError("node is not installed")


@pytest.mark.parametrize(("case", "precision"), ASKED, ids=str)
def test_transformers_js_answers_as_edgetfm_does(
    case: Case,
    precision: str,
    replies: Replies,
    bundles: Bundles,
    inputs: Callable[[Case], list[Any]],
) -> None:
    ask = pipeline(bundles(case, precision), threads=1)
    for words, theirs in zip(inputs(case), replies[case, precision], strict=True):
        COMPARED[case.task](ask, words, theirs, BOUNDS[precision])


def same_states(ask: Any, words: Any, theirs: Any, bound: float) -> None:
    """The states of each token, as both give them before pooling."""
    prepare = ask.preprocessor.images if ask.task.startswith("image") else ask.preprocessor.texts
    ours = ask.model.run(prepare([words]))["last_hidden_state"]
    assert distance(np.reshape(theirs["values"], theirs["shape"]), ours) <= bound


def same_labels(ask: Any, words: Any, theirs: Any, bound: float) -> None:
    ours = ask(words, top_k=None)
    assert {e["label"] for e in theirs} == {e["label"] for e in ours}
    scores = {e["label"]: e["score"] for e in ours}
    assert max(abs(scores[e["label"]] - e["score"]) for e in theirs) <= bound


def same_matches(ask: Any, words: Any, theirs: Any, bound: float) -> None:
    picture, labels = words
    ours = ask(picture, candidate_labels=labels, hypothesis_template="{}")
    assert [e["label"] for e in theirs] == [e["label"] for e in ours]
    for one, other in zip(theirs, ours, strict=True):
        assert abs(one["score"] - other["score"]) <= bound


def same_tokens(ask: Any, words: Any, theirs: Any, bound: float) -> None:
    ours = ask(words, ignore_labels=())
    for one, other in zip(theirs, ours, strict=True):
        assert (one["entity"], one["index"]) == (other["entity"], other["index"])
        assert abs(one["score"] - other["score"]) <= bound


def same_proposals(ask: Any, words: Any, theirs: Any, bound: float) -> None:
    for one, other in zip(theirs, ask(words, top_k=3), strict=True):
        assert {k: one[k] for k in ("token", "token_str", "sequence")} == {
            k: other[k] for k in ("token", "token_str", "sequence")
        }
        assert abs(one["score"] - other["score"]) <= bound


def same_answer(ask: Any, words: Any, theirs: Any, bound: float) -> None:
    """Theirs may be of any length and ends inside a word."""
    ours = ask(words, max_answer_length=1000)
    assert abs(theirs["score"] - ours["score"]) <= bound
    letters = "".join(filter(str.isalnum, theirs["answer"])).lower()
    assert letters
    assert letters in "".join(filter(str.isalnum, ours["answer"])).lower()


def same_text(ask: Any, words: Any, theirs: Any, bound: float) -> None:
    """Greedy: a token is the same, or another one."""
    assert theirs == ask(words, max_new_tokens=12)


COMPARED: dict[str, Callable[[Any, Any, Any, float], None]] = {
    "feature-extraction": same_states,
    "image-feature-extraction": same_states,
    "text-classification": same_labels,
    "image-classification": same_labels,
    "token-classification": same_tokens,
    "fill-mask": same_proposals,
    "question-answering": same_answer,
    "text-generation": same_text,
    "zero-shot-image-classification": same_matches,
}


def test_every_precision_of_minilm_is_asked() -> None:
    assert [p for case, p in ASKED if case is MINILM] == list(MINILM.precisions)
