"""Pipelines answer as transformers' pipelines do with the same weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetfm import pipeline
from edgetfm.bundle import BundleWriter, open_bundle
from edgetfm.errors import InputError
from edgetfm.runtime.tasks import WAYS
from edgetfm.tasks import TASKS

TOLERANCE = 1e-5

TinyBundle = Callable[..., Any]


def theirs(task: str, folder: Path) -> Any:
    import transformers

    return transformers.pipeline(task, model=str(folder), device="cpu")


def assert_same(ours: Any, wanted: Any) -> None:
    """The same structure, names and text; numbers to TOLERANCE."""
    if isinstance(wanted, (list, tuple)):
        assert isinstance(ours, list)
        assert len(ours) == len(wanted), (ours, wanted)
        for one, two in zip(ours, wanted, strict=True):
            assert_same(one, two)
    elif isinstance(wanted, dict):
        assert set(ours) == set(wanted)
        for key, value in wanted.items():
            assert_same(ours[key], value)
    elif isinstance(wanted, (float, np.floating)):
        assert isinstance(ours, float)
        assert ours == pytest.approx(float(wanted), abs=TOLERANCE)
    else:
        assert type(ours) is type(wanted)
        assert ours == wanted


def test_every_task_has_a_way() -> None:
    assert set(WAYS) == set(TASKS)


# --- text-classification ------------------------------------------------------------------------


def test_text_classification(tiny_bundle: TinyBundle, texts: list[str]) -> None:
    made = tiny_bundle("bert", "text-classification")
    ours, wanted = pipeline(made.bundle), theirs("text-classification", made.source)
    assert_same(ours(texts[0]), wanted(texts[0]))
    assert_same(ours(texts), wanted(texts))
    assert_same(ours(texts, batch_size=4), wanted(texts))
    assert_same(ours(texts[0], top_k=None), wanted(texts[0], top_k=None))
    assert_same(ours(texts, top_k=2), wanted(texts, top_k=2))
    assert_same(
        ours(texts[:2], top_k=3, function_to_apply="sigmoid"),
        wanted(texts[:2], top_k=3, function_to_apply="sigmoid"),
    )
    pairs = [{"text": a, "text_pair": b} for a, b in (("a boat", "sold"), ("it", "rain"))]
    assert_same(ours(pairs), wanted(pairs))
    assert ours([]) == []


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_the_kind_of_problem_decides_what_a_score_is(
    tiny_bundle: TinyBundle, texts: list[str], tmp_path: Path, problem: str
) -> None:
    made = tiny_bundle("bert", "text-classification")
    source = shutil.copytree(made.source, tmp_path / "source")
    config = json.loads((source / "config.json").read_text()) | {"problem_type": problem}
    (source / "config.json").write_text(json.dumps(config))
    opened = open_bundle(made.bundle)
    with BundleWriter(tmp_path / "bundle") as writer:
        for name in opened.manifest.files:
            writer.copy((source if name == "config.json" else opened.root) / name, name)
        writer.commit(opened.manifest)
    ours, wanted = pipeline(tmp_path / "bundle"), theirs("text-classification", source)
    assert_same(ours(texts, top_k=None), wanted(texts, top_k=None))


# --- fill-mask ----------------------------------------------------------------------------------


def test_fill_mask_on_a_real_model(masked_lm_bundle: Any) -> None:
    ours, wanted = pipeline(masked_lm_bundle.bundle), theirs("fill-mask", masked_lm_bundle.source)
    one = "The capital of France is [MASK]."
    two = "He put the [MASK] on the table and left the [MASK]."
    for text in (one, two):
        assert_same(ours(text), wanted(text))
    assert_same(ours([one, one], top_k=2), wanted([one, one], top_k=2))
    assert_same(ours(one, targets=["paris", "london"]), wanted(one, targets=["paris", "london"]))
    with pytest.raises(InputError, match=r"text 1 has no \[MASK\]"):
        ours([one, "nothing to fill"])
    with pytest.raises(InputError, match="'qwertyuiop' is no token"):
        ours(one, targets=["paris", "qwertyuiop"])


# --- token-classification -----------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["none", "simple", "first", "average", "max"])
def test_token_classification(tiny_bundle: TinyBundle, texts: list[str], strategy: str) -> None:
    made = tiny_bundle("distilbert", "token-classification")
    ours, wanted = pipeline(made.bundle), theirs("token-classification", made.source)
    given = [*texts, "Ünknown ☃ letters"]
    assert_same(
        ours(given, aggregation_strategy=strategy), wanted(given, aggregation_strategy=strategy)
    )
    assert_same(
        ours(texts[0], aggregation_strategy=strategy, ignore_labels=[]),
        wanted(texts[0], aggregation_strategy=strategy, ignore_labels=[]),
    )


def test_entities_point_into_the_text(tiny_bundle: TinyBundle, texts: list[str]) -> None:
    ours = pipeline(tiny_bundle("distilbert", "token-classification").bundle)
    found = ours(texts[2], aggregation_strategy="first", ignore_labels=[])
    assert found
    for entity in found:
        piece = texts[2][entity["start"] : entity["end"]].lower()
        assert piece.replace(" ", "") == entity["word"].replace(" ", "")


def test_pairs_are_refused_where_they_mean_nothing(tiny_bundle: TinyBundle) -> None:
    ours = pipeline(tiny_bundle("distilbert", "token-classification").bundle)
    with pytest.raises(InputError, match="takes one text at a time:\nitem 1 is a pair"):
        ours(["fine", ("a", "b")])


# --- question-answering -------------------------------------------------------------------------


def best_span(folder: Path, question: str, context: str, longest: int) -> tuple[int, int, float]:
    """The best span by trying all of them, with transformers' model and tokenizer."""
    import torch
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    encoded = tokenizer(question, context, return_tensors="pt", return_offsets_mapping=True)
    offsets = encoded.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        answer = model(**encoded)
    inside = [s == 1 for s in encoded.sequence_ids(0)]
    counted = torch.tensor([i == 0 or yes for i, yes in enumerate(inside)])
    start, end = (
        torch.where(counted, logits[0], torch.tensor(float("-inf"))).softmax(-1).tolist()
        for logits in (answer.start_logits, answer.end_logits)
    )
    score, s, e = max(
        (start[s] * end[e], s, e)
        for s in range(len(start))
        for e in range(s, min(s + longest, len(end)))
        if inside[s] and inside[e]
    )
    words = [encoded.word_to_chars(encoded.token_to_word(0, i), sequence_index=1) for i in (s, e)]
    assert words[0].start <= offsets[s][0]
    return words[0].start, words[1].end, score


@pytest.mark.parametrize("longest", [1, 4, 15])
def test_question_answering_finds_the_best_span(
    tiny_bundle: TinyBundle, texts: list[str], longest: int
) -> None:
    made = tiny_bundle("bert", "question-answering")
    ours = pipeline(made.bundle)
    question, context = "Who sold it?", "Maria sold the boat. Nobody said why."
    start, end, score = best_span(made.source, question, context, longest)
    answer = ours((question, context), max_answer_length=longest)
    assert (answer["start"], answer["end"]) == (start, end)
    assert answer["answer"] == context[start:end]
    assert answer["score"] == pytest.approx(score, abs=TOLERANCE)


def test_question_answering_takes_and_gives_the_usual_forms(tiny_bundle: TinyBundle) -> None:
    ours = pipeline(tiny_bundle("bert", "question-answering").bundle)
    question, context = "Who sold it?", "Maria sold the boat. Nobody said why."
    one = ours({"question": question, "context": context})
    assert one == ours((question, context))
    assert ours([(question, context)] * 2) == [one, one]
    several = ours((question, context), top_k=3)
    assert several[0] == one
    assert [a["score"] for a in several] == sorted((a["score"] for a in several), reverse=True)
    assert len({(a["start"], a["end"]) for a in several}) == 3
    none = ours((question, context), top_k=50, handle_impossible_answer=True)
    assert sum(a["answer"] == "" for a in none) == 1


def test_a_long_context_is_read_in_windows(tiny_bundle: TinyBundle, texts: list[str]) -> None:
    ours = pipeline(tiny_bundle("bert", "question-answering").bundle)
    question, context = "Who sold it?", " ".join(texts)
    answers = ours((question, context), top_k=200, doc_stride=8)
    assert max(a["end"] for a in answers) > len(context) * 0.9
    assert min(a["start"] for a in answers) < len(context) * 0.1
    for answer in answers:
        assert context[answer["start"] : answer["end"]] == answer["answer"]


def test_questions_that_cannot_be_asked_are_input_errors(tiny_bundle: TinyBundle) -> None:
    ours = pipeline(tiny_bundle("bert", "question-answering").bundle)
    with pytest.raises(InputError, match=r"takes \(question, context\)"):
        ours("Who?")
    with pytest.raises(InputError, match=r"item 0.*\n.*item 1"):
        ours([("Who?", ""), {"question": "Who?"}])
    with pytest.raises(InputError, match="no room"):
        ours(("why " * 100, "because"))


# --- embeddings ---------------------------------------------------------------------------------


def test_sentence_embeddings_are_arrays(tiny_bundle: TinyBundle, texts: list[str]) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    made = tiny_bundle("mpnet", "feature-extraction")
    ours = pipeline(made.bundle)
    tokenizer, model = (c.from_pretrained(made.source) for c in (AutoTokenizer, AutoModel))
    embeddings = ours(texts, batch_size=4, max_length=64)
    assert embeddings.shape == (len(texts), 32)
    states = ours(texts, output="last_hidden_state", max_length=64)
    for i, text in enumerate(texts):
        with torch.no_grad():
            wanted = model.eval()(**tokenizer(text, return_tensors="pt", truncation=True))[0][0]
        np.testing.assert_allclose(states[i], wanted.numpy(), atol=2e-5)
        np.testing.assert_allclose(embeddings[i], wanted.mean(0).numpy(), atol=2e-5)
        np.testing.assert_allclose(ours(text, max_length=64), embeddings[i], atol=2e-5)
    assert ours([]).shape == (0, 32)
    with pytest.raises(InputError, match="no output 'logits'"):
        ours(texts, output="logits")


# --- images -------------------------------------------------------------------------------------


def test_image_classification(tiny_bundle: TinyBundle, pictures: list[Path]) -> None:
    made = tiny_bundle("vit", "image-classification")
    ours, wanted = pipeline(made.bundle), theirs("image-classification", made.source)
    names = [str(p) for p in pictures]
    assert_same(ours(pictures[0]), wanted(names[0]))
    assert_same(ours(pictures, batch_size=2), wanted(names))
    assert_same(ours(names, top_k=2), wanted(names, top_k=2))
    assert len(ours(pictures[0], top_k=None)) == 6


def test_image_embeddings(tiny_bundle: TinyBundle, pictures: list[Path]) -> None:
    made = tiny_bundle("deit", "image-feature-extraction")
    ours, wanted = pipeline(made.bundle), theirs("image-feature-extraction", made.source)
    states = np.array([wanted(str(p))[0] for p in pictures])
    np.testing.assert_allclose(
        np.array(ours(pictures, output="last_hidden_state")), states, atol=2e-5
    )
    np.testing.assert_allclose(ours(pictures), states[:, 0], atol=2e-5)
    assert ours(pictures[0]).shape == (32,)


# --- options ------------------------------------------------------------------------------------


def test_a_text_that_is_cut_is_said(tiny_bundle: TinyBundle, texts: list[str]) -> None:
    ours = pipeline(tiny_bundle("bert", "text-classification").bundle)
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than the model's 64 tokens"):
        ours([" ".join(texts), "short"])
    ours(" ".join(texts), max_length=64)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": 1}, "no option temperature; it has .*top_k"),
        ({"top_k": 0}, "top_k is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"function_to_apply": "relu"}, "function_to_apply is 'relu'"),
    ],
)
def test_options_are_checked(tiny_bundle: TinyBundle, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        pipeline(tiny_bundle("bert", "text-classification").bundle)("fine", **options)


def test_the_wrong_kind_of_input_is_an_input_error(
    tiny_bundle: TinyBundle, pictures: list[Path]
) -> None:
    text = pipeline(tiny_bundle("bert", "text-classification").bundle)
    with pytest.raises(InputError, match="expected text"):
        text(pictures[0])
    with pytest.raises(InputError, match="give text"):
        text.preprocessor.images(pictures)
    image = pipeline(tiny_bundle("vit", "image-classification").bundle)
    with pytest.raises(InputError, match="no image at"):
        image("a sentence")
    with pytest.raises(InputError, match="give images"):
        image.preprocessor.texts(["a"])
