"""Tasks are found by the names people use, and each has a budget its outputs can be held to."""

from __future__ import annotations

import pytest

from edgetfm.errors import InputError
from edgetfm.parity import Budget
from edgetfm.tasks import TASKS, Task, task_named


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
    measures = {name for name, _ in Budget.parse(task.budget).bounds}
    if task.outputs[-1].kind in ("logits", "span"):
        assert measures in ({"agreement"}, {"kl"})
    else:
        assert measures == {"cosine", "worst_cosine"}
