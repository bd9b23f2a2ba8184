"""Optimum's ORTModel classes, in their own environment, give a bundle's own numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgetfm import load, pipeline
from edgetfm.bundle import open_bundle
from tests.interop.programs import BOUNDS, HERE, Bundles, distance, run
from tests.interop.rows import CASES, DIGITS, MINILM, Case

Answers = dict[tuple[Case, str], dict[str, NDArray[Any]]]

ASKED = [(case, p) for case in CASES if case.optimum for p in case.precisions]
QUESTIONS = ["Who sold the boat?", "Where does the water go?"]


@pytest.fixture(scope="module")
def answers(
    bundles: Bundles,
    python_of: Callable[[str], Path],
    texts: list[str],
    pictures: list[Path],
    digits: tuple[Any, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Answers:
    """What Optimum makes of the bundles, in one process: its imports take longest."""
    folder = tmp_path_factory.mktemp("optimum")
    grey = folder / "grey.npz"  # transformers' processors take pictures in color
    shown = sorted(digits[1].glob("*/*.png"))[::40]
    np.savez(grey, **pipeline(digits[0].bundle).preprocessor.images(shown))
    python = python_of("optimum")
    jobs = []
    for i, (case, precision) in enumerate(ASKED):
        bundle = bundles(case, precision)
        file = Path(open_bundle(bundle).variant().file)
        named = {"subfolder": str(file.parent), "file_name": file.name}
        jobs.append(
            {
                "class": case.optimum,
                "bundle": str(bundle),
                "options": {} if precision == "fp32" else named,
                "answers": str(folder / f"{i}.npz"),
                **({"arrays": str(grey)} if case is DIGITS else given(case, texts, pictures)),
            }
        )
    run([python, HERE / "in_optimum.py"], given=jobs)
    return {asked: dict(np.load(folder / f"{i}.npz")) for i, asked in enumerate(ASKED)}


def given(case: Case, texts: list[str], pictures: list[Path]) -> dict[str, Any]:
    """What a task is asked about."""
    if case.task.startswith("image"):
        return {"pictures": list(map(str, pictures))}
    if case.task == "question-answering":
        return {"texts": QUESTIONS, "pairs": texts[: len(QUESTIONS)]}
    return {"texts": texts}


def part(found: dict[str, NDArray[Any]], name: str) -> dict[str, NDArray[Any]]:
    return {k.removeprefix(f"{name}."): v for k, v in found.items() if k.startswith(f"{name}.")}


@pytest.mark.parametrize(("case", "precision"), ASKED, ids=str)
def test_optimum_gives_the_bundles_own_numbers(
    case: Case, precision: str, answers: Answers, bundles: Bundles
) -> None:
    found = answers[case, precision]
    model = load(bundles(case, precision), threads=1)
    inputs = part(found, "inputs")
    ours = model.run({t.name: inputs[t.name] for t in model.signature.inputs if t.name in inputs})
    theirs = part(found, "outputs")
    assert theirs
    for name, answer in theirs.items():
        assert distance(answer, ours[name]) <= BOUNDS[precision], name


@pytest.mark.filterwarnings("ignore:.*texts are longer than the model's")  # cut in both alike
@pytest.mark.parametrize(("case", "precision"), [a for a in ASKED if a[0] is not DIGITS], ids=str)
def test_optimum_prepares_what_edgetfm_prepares(
    case: Case,
    precision: str,
    answers: Answers,
    bundles: Bundles,
    texts: list[str],
    pictures: list[Path],
) -> None:
    inputs = part(answers[case, precision], "inputs")
    prepare = pipeline(bundles(case, precision)).preprocessor
    wanted = given(case, texts, pictures)
    if "pictures" in wanted:
        assert distance(prepare.images(pictures)["pixel_values"], inputs["pixel_values"]) <= 1e-4
        return
    asked = list(zip(wanted["texts"], wanted["pairs"], strict=True)) if "pairs" in wanted else texts
    for name, array in prepare.texts(asked).items():
        np.testing.assert_array_equal(array, inputs[name], err_msg=name)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_mean_pooling_in_optimum_is_the_sentence_embedding(
    precision: str, answers: Answers, bundles: Bundles, texts: list[str]
) -> None:
    found = answers[MINILM, precision]
    hidden = found["outputs.last_hidden_state"]
    mask = found["inputs.attention_mask"][..., None]
    pooled = (hidden * mask).sum(1) / mask.sum(1)
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    ours = np.stack(pipeline(bundles(MINILM, precision))(texts, batch_size=len(texts)))
    assert distance(pooled, ours) <= BOUNDS[precision]
