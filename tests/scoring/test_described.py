"""Pictures with words are judged: captions by BLEU, matches by the text that fits best."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from edgetfm.errors import DataError
from edgetfm.runtime.tasks.zero_shot_image import TEMPLATE
from edgetfm.scoring.described import measure_captions, measure_matches
from edgetfm.scoring.evaluation import LabelledData, read_eval
from edgetfm.tasks import TASKS

MATCH, CAPTION = "zero-shot-image-classification", "image-to-text"
SENSES = "multimodal-classification"


@pytest.fixture
def table(tmp_path: Path) -> Any:
    """table(rows): a .jsonl file of these, beside four pictures 0.png to 3.png."""
    for shade in range(4):
        Image.new("L", (4, 4), 60 * shade).save(tmp_path / f"{shade}.png")

    def write(rows: Sequence[dict[str, Any]]) -> Path:
        (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path / "rows.jsonl"

    return write


def read(path: Path, task: str, labels: tuple[str, ...] = ()) -> LabelledData:
    data = read_eval(str(path), TASKS[task], labels)
    assert isinstance(data, LabelledData)
    return data


def test_a_match_is_right_if_no_other_text_of_the_data_fits_better(table: Any) -> None:
    rows = [{"file_name": f"{i}.png", "text": text} for i, text in enumerate("aabc")]
    rows.append({"file_name": "2.png", "text": "c"})  # either text of a picture is right
    data = read(table(rows), MATCH)
    assert data.metric_name == "accuracy"

    def answer(pictures: Sequence[Path], **given: Any) -> list[list[dict[str, Any]]]:
        assert given["candidate_labels"] == ["a", "b", "c"]
        assert given["hypothesis_template"] == "{}"
        best = {"0.png": "a", "1.png": "b", "2.png": "b", "3.png": "c"}
        return [[{"label": best[path.name], "score": 1.0}] for path in pictures]

    assert measure_matches(answer, data.examples)["accuracy"].value == 0.8  # type: ignore[arg-type]


def test_a_folder_or_a_column_of_labels_is_put_into_the_usual_sentence(
    table: Any, tmp_path: Path
) -> None:
    named = read(table([{"image": "0.png", "label": "a hen"}]), MATCH)
    assert named.examples[0].wanted == TEMPLATE.format("a hen")
    (tmp_path / "set" / "a hen").mkdir(parents=True)
    (tmp_path / "0.png").rename(tmp_path / "set" / "a hen" / "0.png")
    assert read(tmp_path / "set", MATCH).examples[0].wanted == named.examples[0].wanted


def test_captions_are_judged_by_bleu_and_by_being_the_same(table: Any) -> None:
    wanted = ["two circles and one square in a row", "one triangle and three more circles"]
    rows = [{"image": f"{i}.png", "caption": text} for i, text in enumerate(wanted)]
    data = read(table(rows), CAPTION)
    assert (data.metric_name, data.higher_is_better) == ("bleu", True)
    for said, bleu, same in ((wanted, 100.0, 1.0), ([wanted[0], "nothing"], None, 0.5)):
        written = [{"generated_text": text} for text in said]
        found = measure_captions(lambda _, written=written, **__: written, data.examples)  # type: ignore[arg-type]
        assert found["exact_match"].value == same
        if bleu is None:
            assert 0 < found["bleu"].value < 90
        else:
            assert found["bleu"].value == pytest.approx(bleu)


def test_rows_that_cannot_be_judged_are_named(table: Any) -> None:
    for task, row, said in (
        (MATCH, {"image": "0.png"}, "row 1: no 'text' or 'label'; it has image"),
        (MATCH, {"image": "9.png", "text": "a"}, "row 1: no image at '9.png'"),
        (CAPTION, {"image": "0.png", "text": " "}, "row 1: 'text' has no text"),
        (SENSES, {"label": 0}, "row 1: no 'text', 'image' or 'audio'"),
        (SENSES, {"text": "a", "label": "z"}, "row 1: label 'z' is none of the model's: x, y"),
    ):
        with pytest.raises(DataError, match=said):
            read(table([row]), task, ("x", "y"))
    with pytest.raises(DataError, match="cannot be used for multimodal-classification"):
        read_eval(str(table([]).parent), TASKS[SENSES], ("x", "y"))
