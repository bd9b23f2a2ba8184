"""What a table says of its parts is taken at its word, but nothing may be in two of them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from edgetfm.errors import DataError, InputError
from edgetfm.training.config import TrainConfig
from edgetfm.training.data.parts import PARTS, as_said
from edgetfm.training.objectives import objective_of
from edgetfm.training.objectives.labels import Labels
from edgetfm.training.objectives.pairs import Pairs
from edgetfm.training.objectives.speech import Speech
from tests.training.worlds import spoken_tones, write_rows

FOLDS = ("test", "validation", "train", "train", "train")


def recordings(folder: Path) -> tuple[Path, list[dict[str, str]]]:
    """A table of tones with a part for each: one clip in five validates, one in five tests."""
    table = spoken_tones(folder, count=30)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        row["fold"] = FOLDS[number % 5]
    return table, rows


def write(table: Path, rows: list[dict[str, str]]) -> None:
    with table.open("w", newline="") as file:
        written = csv.DictWriter(file, list(rows[0]))
        written.writeheader()
        written.writerows(rows)


def test_recordings_are_in_the_part_that_their_table_says(tmp_path: Path) -> None:
    table, rows = recordings(tmp_path / "tones")
    write(table, rows)
    config = TrainConfig(
        family="whisper",
        task="automatic-speech-recognition",
        dataset=str(table),
        epochs=1,
        columns={"part": "fold"},
        model={"frames": 50, "mels": 80},
    )
    told = Speech(config)
    assert {p: told.data.count(p) for p in PARTS} == {"train": 18, "validation": 6, "test": 6}
    first = next(r["text"] for r in rows if r["fold"] == "test")
    assert told.ids["test"][0][:-1] == told.tokenizer.ids([first], special=False)[0]
    by_hash = Speech(replace(config, columns={}))
    assert by_hash.data.fingerprint == told.data.fingerprint
    assert by_hash.data.test != 6 or by_hash.ids["test"] != told.ids["test"]


def test_a_recording_in_two_parts_and_an_unknown_part_are_said_by_row() -> None:
    items = [(b"a", 1), (b"b", 2), (b"a", 3), (b"c", 4), (b"d", 5)]
    with pytest.raises(DataError) as caught:
        as_said(items, ["train", "dev", "test", "test", "test"], "clips")
    said = str(caught.value)
    assert "row 2: the part is 'dev', expected train, validation, test" in said
    assert "row 3: in the test part, the same as row 1 in train" in said
    assert "nothing is in the validation part" in said


def told(family: str, task: str, table: Path, **columns: str) -> TrainConfig:
    """A configuration that names columns of a table."""
    small = {"kind": "text2text", "vocabulary": 300}
    return TrainConfig(family, task, str(table), epochs=1, columns=columns, tokenizer=small)


def test_pairs_and_labelled_texts_are_in_the_part_that_their_table_says(tmp_path: Path) -> None:
    rows = [
        {"source": f"a {i}", "target": f"b {i}", "label": "ab"[i % 2], "fold": FOLDS[i % 5]}
        for i in range(40)
    ]
    table = write_rows(tmp_path / "rows.jsonl", rows)
    pairs = Pairs(told("transformer", "translation", table, part="fold"))
    texts = Labels(told("bert", "text-classification", table, text="source", part="fold"))
    for objective in (pairs, texts):
        held = {p: objective.data.count(p) for p in PARTS}
        assert held == {"train": 24, "validation": 8, "test": 8}
    first = pairs.tokenizer.ids(["a 0", "a 5"], special=False)
    assert [ids[:-1] for ids in pairs.ids["source"]["test"][:2]] == first
    assert [*texts.numbers["test"]] == [i % 2 for i in range(0, 40, 5)]


def test_a_text_may_come_twice_in_its_part_but_not_in_another(tmp_path: Path) -> None:
    rows = [
        {"text": f"so {word}", "label": "ab"[i % 2], "part": FOLDS[i % 5]}
        for i, word in enumerate("abcdefghij")
    ]
    again = write_rows(tmp_path / "again.jsonl", [*rows, rows[2]])
    known = Labels(told("bert", "text-classification", again, part="part"))
    assert sum(known.data.count(p) for p in PARTS) == len(rows)
    assert known.data.train == 6
    # Only its stops are others: what was trained on would be judged by.
    leaked = write_rows(
        tmp_path / "leaked.jsonl", [*rows, {**rows[2], "text": "So, C!", "part": "test"}]
    )
    with pytest.raises(DataError, match="row 11: in the test part, the same as row 3 in train"):
        Labels(told("bert", "text-classification", leaked, part="part"))


def test_columns_that_an_objective_does_not_read_are_refused(tmp_path: Path) -> None:
    plain = told("gpt", "text-generation", tmp_path / "t.txt", part="fold", text="verse")
    with pytest.raises(InputError, match=r"columns\.part and columns\.text .* reads no column"):
        objective_of(plain)
    asked = told("bert", "text-classification", tmp_path / "t.csv", audio="file")
    with pytest.raises(InputError, match=r"columns\.audio .* for text, label, part"):
        objective_of(asked)
