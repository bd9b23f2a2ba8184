"""What is asked and what is to be answered, for each objective."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgetfm.errors import DataError, InputError
from edgetfm.training import TrainConfig
from edgetfm.training.data.named import NAMED, Named
from edgetfm.training.data.parts import PARTS, Shares
from edgetfm.training.data.tables import read_texts_of
from edgetfm.training.objectives import IGNORED, OBJECTIVES, OF_TASK, Batch, objective_of
from edgetfm.training.objectives.causal import Causal
from edgetfm.training.objectives.labels import Labels
from edgetfm.training.objectives.masked import hidden
from edgetfm.training.objectives.pairs import Pairs
from edgetfm.training.objectives.spans import corrupted, spans_of
from tests.training.worlds import judged_texts, text_folder, turned_pairs, write_rows


def config(task: str, dataset: Path, **changes: Any) -> TrainConfig:
    values: dict[str, Any] = {
        "family": "gpt",
        "task": task,
        "dataset": str(dataset),
        "epochs": 1,
        "length": 16,
        "tokenizer": {"vocabulary": 400},
    }
    return TrainConfig(**(values | changes))


def test_every_objective_is_of_a_task() -> None:
    assert {name for names in OF_TASK.values() for name in names} == set(OBJECTIVES)


def test_an_objective_of_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="text-generation is learned by causal"):
        objective_of(config("text-generation", tmp_path, objective="masked"))
    with pytest.raises(InputError, match=r"training knows the tasks text-generation, .*depth"):
        objective_of(config("depth-estimation", tmp_path))


# --- causal -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "unused"),
    [
        ("object-detection", {"teacher": {"source": "x"}, "label_smoothing": 0.1, "shift": 2}),
        ("zero-shot-image-classification", {"teacher": {"source": "x"}}),
        ("image-classification", {"flip": "across", "tokenizer": {"kind": "bpe"}}),
        ("text-generation", {"shift": 1, "flip": "both"}),
    ],
)
def test_settings_that_an_objective_does_not_know_are_refused_at_once(
    task: str, unused: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="would not use") as caught:
        objective_of(config(task, tmp_path / "nothing", **({"tokenizer": {}} | unused)))
    for name, value in unused.items():
        assert f"{name} is {value!r}" in str(caught.value)


def test_each_token_is_foretold_from_those_before(tmp_path: Path) -> None:
    objective = Causal(config("text-generation", text_folder(tmp_path / "t")))
    batch = objective.batch("validation", np.arange(3), None)
    assert batch.targets.shape == (3, 16)
    np.testing.assert_array_equal(batch.targets[:, :-1], batch.feeds["input_ids"][:, 1:])
    np.testing.assert_array_equal(batch.targets[:2, -1], batch.feeds["input_ids"][1:, 0])
    moved = objective.batch("train", np.arange(3), np.random.default_rng(0))
    assert not np.array_equal(
        moved.feeds["input_ids"], objective.batch("train", np.arange(3), None).feeds["input_ids"]
    )


def test_no_text_is_in_two_parts_and_one_file_is_cut_whole(tmp_path: Path) -> None:
    from edgetfm.training.data.corpus import pieces, read_corpus

    folder = text_folder(tmp_path / "t")
    corpus = read_corpus(str(folder), Shares())
    files = {p.read_text().strip() for p in folder.iterdir()}
    held = [text for part in PARTS for text in corpus.parts[part]]
    assert sorted(files) == sorted(set(held))
    text = "\n\n".join(f"scene {i}: " + "words " * (i % 7 * 20) for i in range(300))
    assert "".join(pieces(text, 1000)) == text
    assert max(map(len, pieces(text, 1000))) <= 2000


# --- masked -------------------------------------------------------------------------------------


def test_of_fifteen_percent_most_are_hidden_some_swapped_some_stay() -> None:
    random = np.random.default_rng(0)
    ids = random.integers(10, 5000, size=(400, 128))
    ids[:, 0], ids[:, -1] = 2, 3
    inputs, targets = hidden(ids, [2, 3], 4, 5000, random)
    chosen = targets != IGNORED
    assert not chosen[:, [0, -1]].any()
    assert chosen.any(axis=1).all()
    np.testing.assert_array_equal(targets[chosen], ids[chosen])
    np.testing.assert_array_equal(inputs[~chosen], ids[~chosen])
    assert chosen[:, 1:-1].mean() == pytest.approx(0.15, abs=0.005)
    masked = (inputs == 4)[chosen].mean()
    stayed = (inputs == ids)[chosen].mean()
    assert masked == pytest.approx(0.8, abs=0.02)
    assert stayed == pytest.approx(0.1, abs=0.02)
    assert 1 - masked - stayed == pytest.approx(0.1, abs=0.02)


def test_what_judges_is_hidden_alike_in_every_epoch(tmp_path: Path) -> None:
    folder = text_folder(tmp_path / "t")
    objective = objective_of(config("fill-mask", folder, family="bert"))
    one, two = (objective.batch("validation", np.arange(4), None) for _ in range(2))
    np.testing.assert_array_equal(one.feeds["input_ids"], two.feeds["input_ids"])
    drawn = [
        objective.batch("train", np.arange(4), np.random.default_rng(seed)).feeds["input_ids"]
        for seed in range(2)
    ]
    assert not np.array_equal(*drawn)


# --- spans --------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(length=st.integers(4, 300), seed=st.integers(0, 99))
def test_what_was_cut_out_and_what_is_left_are_the_text(length: int, seed: int) -> None:
    ids = list(range(1000, 1000 + length))
    marks = list(range(100))
    source, target = corrupted(ids, marks, np.random.default_rng(seed))
    spans: dict[int, list[int]] = {}
    for number in target:
        if number < 100:
            spans[number] = []
            last = number
        else:
            spans[last].append(number)
    again = [n for i in source for n in (spans[i] if i < 100 else [i])]
    assert again == ids
    assert [i for i in source if i < 100] == list(spans) == marks[: spans_of(length)]
    assert all(spans.values())
    cut = sum(map(len, spans.values()))
    assert cut == max(spans_of(length), round(0.15 * length))


def test_a_tokenizer_without_marks_is_refused(tmp_path: Path) -> None:
    folder = text_folder(tmp_path / "t")
    with pytest.raises(InputError, match="extra_id_0"):
        objective_of(
            config(
                "text2text-generation",
                folder,
                objective="spans",
                tokenizer={"vocabulary": 300, "kind": "bpe"},
            )
        )


# --- pairs and labels ---------------------------------------------------------------------------


def test_a_target_is_read_one_token_later_and_ends(tmp_path: Path) -> None:
    objective = Pairs(config("translation", turned_pairs(tmp_path / "p.jsonl"), family="t5"))
    batch = objective.batch("train", np.arange(8), None)
    reads, mask = batch.feeds["decoder_input_ids"], batch.feeds["decoder_attention_mask"]
    assert (reads[:, 0] == objective.pad).all()
    for row, wanted, real in zip(reads, batch.targets, mask, strict=True):
        count = int(real.sum())
        np.testing.assert_array_equal(row[1:count], wanted[: count - 1])
        assert wanted[count - 1] == objective.end
        assert (wanted[count:] == IGNORED).all()
    assert batch.count == int(mask.sum())


def test_a_source_and_all_that_was_written_of_it_are_in_one_part(tmp_path: Path) -> None:
    rows = [{"source": f"text {i % 50}", "target": f"answer {i}"} for i in range(300)]
    objective = Pairs(config("translation", write_rows(tmp_path / "p.jsonl", rows)))
    seen = {part: {tuple(ids) for ids in objective.ids["source"][part]} for part in PARTS}
    assert not seen["train"] & seen["validation"]
    assert not seen["train"] & seen["test"]


def test_texts_of_one_batch_are_filled_up_and_none_is_twice(tmp_path: Path) -> None:
    path = judged_texts(tmp_path / "l.jsonl", 200)
    once = Labels(config("text-classification", path, family="bert", length=32))
    twice = tmp_path / "twice.jsonl"
    twice.write_text(path.read_text() * 2)
    again = Labels(config("text-classification", twice, family="bert", length=32))
    assert again.data.train == once.data.train
    assert once.labels == ("bad", "good")
    batch = once.batch("train", np.arange(6), None)
    lengths = batch.feeds["attention_mask"].sum(axis=1)
    assert lengths.max() == batch.feeds["input_ids"].shape[1]
    assert ((batch.feeds["input_ids"] == once.pad) == (batch.feeds["attention_mask"] == 0)).all()


def test_rows_that_say_a_text_again_are_counted_and_contradictions_named(tmp_path: Path) -> None:
    file = judged_texts(tmp_path / "judged.jsonl", 90)
    assert Labels(config("text-classification", file, family="bert")).data.notes == []
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    other = {"good": "bad", "bad": "good"}[rows[1]["label"]]
    write_rows(file, [*rows, rows[0], {**rows[1], "label": other}])
    (note,) = Labels(config("text-classification", file, family="bert")).data.notes
    assert note.startswith("2 of 92 rows say a text again")
    assert note.endswith("1 of them with another label than its first one: rows 92")


def test_a_text_with_other_stops_is_in_the_part_of_the_first(tmp_path: Path) -> None:
    rows = [
        {"text": text.format(i), "label": "ab"[i % 2]}
        for i in range(120)
        for text in ("It was the {}th, and a good one!", "it was the {}th and  a good one.")
    ]
    objective = Labels(
        config("text-classification", write_rows(tmp_path / "l.jsonl", rows), family="bert")
    )
    numbers = {
        part: {re.sub(r"\D", "", objective.tokenizer.tokenizer.decode(ids)) for ids in held}
        for part, held in objective.ids.items()
    }
    assert objective.data.train == 2 * len(numbers["train"])
    assert sum(map(len, numbers.values())) == len(set().union(*numbers.values())) == 120


def test_a_name_stands_for_some_rows_of_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": f"text {i}", "label": "a", "of": "ab"[i % 2]} for i in range(10)]
    (tmp_path / "rows_of_ours").mkdir()
    write_rows(tmp_path / "rows_of_ours" / "rows.jsonl", rows)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(NAMED, "ours", Named("rows_of_ours", "*.jsonl", "ours==1", {"of": "b"}))
    wanted = {"text": ("text",)}
    assert read_texts_of("ours", wanted, {}) == [{"text": f"text {i}"} for i in range(1, 10, 2)]
    path = str(tmp_path / "rows_of_ours" / "rows.jsonl")
    assert len(read_texts_of(path, wanted, {})) == 10


def test_the_share_of_a_process_is_its_rows_and_never_nothing() -> None:
    whole = Batch({"x": np.arange(5)}, np.arange(5))
    shares = [whole.share(i, 3) for i in range(3)]
    assert sorted(n for s in shares for n in s.targets) == list(range(5))
    one = Batch({"x": np.arange(1)}, np.array([4]))
    assert [one.share(i, 2).count for i in range(2)] == [1, 0]
    assert one.share(1, 2).feeds["x"].shape == (1,)


# --- bad data -----------------------------------------------------------------------------------


def bad_rows(tmp_path: Path, content: str, name: str = "bad.csv") -> Path:
    (tmp_path / name).write_text(content)
    return tmp_path / name


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("bad.csv", "", r"bad\.csv is empty"),
        ("bad.jsonl", "", r"bad\.jsonl holds no rows"),
        ("bad.csv", "words,label\nhello,a\n", r"columns words, label.*no column for the text"),
        ("bad.csv", "text,label\nhello,a\n,b\n", r"bad\.csv, row 3: no text in 'text'"),
        ("bad.csv", "text,label\nhello,a\nbye,a\n", r"all 2 rows have the label 'a'"),
        ("bad.jsonl", '{"text": "a", "label": 1}\n{"text"\n', r"bad\.jsonl, row 2: not JSON"),
        ("bad.jsonl", '{"text": "a"}\n', r"no column for the label"),
        ("bad.xlsx", "x", "is no table"),
    ],
)
def test_bad_tables_are_said_with_file_and_row(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    path = bad_rows(tmp_path, content, name)
    with pytest.raises(DataError, match=f"(?s){said}"):
        Labels(config("text-classification", path, family="bert"))


def test_columns_may_be_named(tmp_path: Path) -> None:
    rows = [{"words": f"text {i}", "mood": i % 2 == 0} for i in range(60)]
    path = write_rows(tmp_path / "r.jsonl", rows)
    named = config(
        "text-classification", path, family="bert", columns={"text": "words", "label": "mood"}
    )
    assert Labels(named).labels == ("False", "True")
    with pytest.raises(DataError, match="'verse' is not there"):
        Labels(config("text-classification", path, columns={"text": "verse", "label": "mood"}))


@pytest.mark.parametrize(
    ("content", "said"),
    [("", "no text"), ("a few words", "too few|fewer than")],
)
def test_too_little_text_is_said(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "t.txt").write_text(content)
    with pytest.raises(DataError, match=said):
        Causal(config("text-generation", tmp_path / "t.txt"))


def test_a_data_set_that_is_not_there_lists_what_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="shakespeare, movie-reviews"):
        Causal(config("text-generation", tmp_path / "absent"))


def test_the_folder_of_a_hugging_face_data_set_is_read(tmp_path: Path) -> None:
    """Written in the layout of datasets' save_to_disk: Arrow streams beside two JSON files."""
    import pyarrow as pa

    folder = tmp_path / "set" / "train"
    folder.mkdir(parents=True)
    table = pa.table(
        {"text": [f"text {i}" for i in range(60)], "label": [i % 2 for i in range(60)]}
    )
    arrow = folder / "data-00000-of-00001.arrow"
    with arrow.open("wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    features = {
        "label": {"names": ["no", "yes"], "_type": "ClassLabel"},
        "text": {"_type": "Value"},
    }
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    (folder / "state.json").write_text(json.dumps(state))
    assert Labels(config("text-classification", tmp_path / "set")).labels == ("no", "yes")
    state["_data_files"][0]["filename"] = "../../elsewhere.arrow"
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(DataError, match="elsewhere"):
        Labels(config("text-classification", tmp_path / "set"))
