"""Tasks are found by the names people use, and each has a budget its outputs can be held to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgetfm.budget import Budget
from edgetfm.errors import InputError
from edgetfm.parity import Measures
from edgetfm.signature import Signature, TensorSpec
from edgetfm.task import Task
from edgetfm.tasks import TASKS, task_named


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda t: t.name)
def test_a_task_is_found_by_name_and_synonym(task: Task) -> None:
    for name in (task.name, *task.synonyms, task.name.upper(), f" {task.name.replace('-', '_')} "):
        assert task_named(name) is task


def test_no_name_means_two_tasks() -> None:
    names = [name for t in TASKS.values() for name in (t.name, *t.synonyms)]
    assert len(set(names)) == len(names)


def test_an_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="unknown task 'poetry'; known are feature-extraction, "):
        task_named("poetry")


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda t: t.name)
def test_the_default_budget_fits_the_output_it_is_about(task: Task) -> None:
    budget = Budget.parse(task.budget)
    kinds = {o.kind for o in task.outputs if o.name in (task.judged or o.name)}
    wanted = {
        "logits": (
            {"agreement"},
            {"kl"},
            {"agreement", "iou"},
            {"perplexity"},
            {"perplexity", "kl"},
        ),
        "span": ({"agreement"},),
        "map": ({"relative"},),
    }
    fitting = [sets for kind, sets in wanted.items() if kind in kinds]
    measures = {name for name, _ in budget.bounds}
    assert measures in (fitting[0] if fitting else [{"cosine", "worst_cosine"}])
    assert ("iou" in measures) == ("boxes" in kinds)


def test_int8_weights_have_a_smaller_budget_than_four_bits() -> None:
    task = TASKS["text-generation"]
    assert task.budget_of(None) == task.budget_of("auto") == task.budget
    eight, auto, four = (
        dict(Budget.parse(task.budget_of(name)).bounds) for name in ("int8-weight", None, "int4")
    )
    assert eight["perplexity"] < auto["perplexity"] <= four["perplexity"]
    assert eight["kl"] < auto["kl"] < four["kl"]


def test_the_budget_of_generated_text_sees_changes_that_perplexity_likes() -> None:
    """Logits scaled by 0.9 lower the perplexity of SmolLM2 by 1.5 %, at 0.034 nats from it."""
    liked = Measures(1, 0.0, 0.0, 0.0, 1.0, 1.0, agreement=1.0, kl=0.034, perplexity=-0.015)
    budget = Budget.parse(TASKS["text-generation"].budget_of("int8-weight"))
    assert budget.misses(liked) == ["kl 0.034 > 0.02"]


def test_other_tasks_have_one_budget_for_all_precisions() -> None:
    assert TASKS["fill-mask"].budget_of("int4") == TASKS["fill-mask"].budget


def test_a_graph_that_cannot_do_the_task_is_told_what_it_lacks() -> None:
    ids = TensorSpec("input_ids", "int64", ("batch", "sequence"))
    logits = TensorSpec("logits", "float32", ("batch", "sequence", 9))
    pixels = TensorSpec("pixel_values", "float32", ("batch", 3, 8, 8))
    assert TASKS["fill-mask"].misfits(Signature((ids, ids), (logits,))) == []
    (rank,) = TASKS["text-classification"].misfits(Signature((ids,), (logits,)))
    assert rank.startswith("text-classification gives logits with 2 axes, the graph has logits: ")
    (name,) = TASKS["feature-extraction"].misfits(
        Signature((ids,), (replace(logits, name="last_hidden_state"),))
    )
    assert "gives sentence_embedding" in name
    (kind,) = TASKS["fill-mask"].misfits(Signature((pixels,), (logits,)))
    assert "takes inputs of 2 axes, the graph has pixel_values" in kind
    assert len(TASKS["image-classification"].misfits(Signature((ids, ids), ()))) == 2


def test_a_graph_of_no_known_task_is_compared_by_its_float_outputs() -> None:
    mask = TensorSpec("attention_mask", "int64", ("batch", "sequence"))
    tokens = TensorSpec("tokens", "float32", ("batch", "sequence", 9))
    pooled = TensorSpec("pooled", "float32", ("batch", 9))
    count = TensorSpec("count", "int64", ("batch",))
    signature = Signature((mask,), (tokens, count, pooled))
    task = TASKS["other"].on(signature, {"tokenizer": {}})
    assert task.modality == "text"
    assert [(o.name, o.per_token) for o in task.outputs] == [("tokens", True), ("pooled", False)]
    assert TASKS["other"].on(signature, {}).modality == "arrays"
    named = Signature((mask,), (replace(pooled, name="sentence_embedding"), tokens))
    kinds = [(o.name, o.kind) for o in TASKS["other"].on(named, {}).outputs]
    assert kinds == [("tokens", "hidden"), ("sentence_embedding", "embedding")]
    assert TASKS["other"].misfits(signature) == []
    (nothing,) = TASKS["other"].misfits(Signature((mask,), (count,)))
    assert nothing.startswith("no output is float")
