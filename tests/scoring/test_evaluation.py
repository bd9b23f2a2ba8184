"""Labelled data gives the task's own metric, and says what is wrong with it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetfm import load, pipeline
from edgetfm.errors import DataError, InputError
from edgetfm.runtime.pipelines import Pipeline
from edgetfm.scoring.evaluation import LabelledData, UserMetric, read_eval
from edgetfm.scoring.labelled import Run, pipeline_of
from edgetfm.signature import Feeds
from edgetfm.tasks import TASKS
from tests.conftest import TAGS
from tests.plain import Exported

NAMES = ("bad", "fair", "good")
TEXT = TASKS["text-classification"]
TOKEN = TASKS["token-classification"]
QUESTION = TASKS["question-answering"]
SENTENCE = TASKS["feature-extraction"]
MASKED = TASKS["fill-mask"]
IMAGE = TASKS["image-classification"]


def write(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def labelled(file: Path, task: Any, labels: tuple[str, ...] = ()) -> LabelledData:
    data = read_eval(str(file), task, labels)
    assert isinstance(data, LabelledData)
    return data


def judge(data: LabelledData, exported: Exported) -> dict[str, float]:
    pipe = pipeline(exported.bundle)
    return {name: score.value for name, score in data.scores(pipe).items()}


def asked(data: LabelledData, run: Run, pipe: Pipeline) -> Pipeline:
    """Another graph in the place of a pipeline's own."""
    return pipeline_of(data.task, data.labels, run, pipe.preprocessor)


# --- classification -----------------------------------------------------------------------------


def test_accuracy_is_the_share_of_texts_that_the_pipeline_labels_right(
    tiny_bundle: Callable[..., Exported], texts: list[str], tmp_path: Path
) -> None:
    exported = tiny_bundle("bert", "text-classification")
    found = [a["label"] for a in pipeline(exported.bundle)(texts)]
    names = [found[0], *found[1:-2], *("bad" if f != "bad" else "good" for f in found[-2:])]
    rows = [{"text": t, "label": n} for t, n in zip(texts, names, strict=True)]
    data = labelled(write(tmp_path / "a.jsonl", rows), TEXT, NAMES)
    assert data.metric_name == "accuracy"
    assert data.higher_is_better
    assert judge(data, exported) == {"accuracy": pytest.approx(4 / 6)}


@pytest.mark.parametrize("label", ["good", "GOOD", "2", 2, "LABEL_2", 2.0])
def test_a_label_is_a_name_or_a_number(label: Any, tmp_path: Path) -> None:
    data = labelled(write(tmp_path / "a.jsonl", [{"text": "x", "label": label}]), TEXT, NAMES)
    assert data.examples[0].wanted == "good"


def test_names_that_are_numbers_are_names(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"text": "x", "label": 7}])
    assert labelled(file, TEXT, ("9", "8", "7")).examples[0].wanted == "7"
    assert labelled(file, TEXT).examples[0].wanted == "LABEL_7"


def test_csv_and_parquet_hold_the_same_as_json(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    rows = [{"text": "one, two", "label": "bad"}, {"text": "three", "label": "fair"}]
    (tmp_path / "a.csv").write_text('text,label\n"one, two",bad\nthree,1\n', encoding="utf-8")
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    write(tmp_path / "a.jsonl", rows)
    made = [labelled(tmp_path / f"a.{s}", TEXT, NAMES) for s in ("csv", "parquet", "jsonl")]
    assert made[0].examples == made[1].examples == made[2].examples
    assert len({data.fingerprint for data in made}) == 1


def test_pairs_of_texts_are_classified_as_pairs(
    tiny_bundle: Callable[..., Exported], tmp_path: Path
) -> None:
    exported = tiny_bundle("bert", "text-classification")
    answer = pipeline(exported.bundle)({"text": "a river", "text_pair": "the mill"})[0]["label"]
    row = {"text": "a river", "text_pair": "the mill", "label": answer}
    data = labelled(write(tmp_path / "a.jsonl", [row]), TEXT, NAMES)
    assert judge(data, exported) == {"accuracy": 1.0}


def test_accuracy_on_pictures_is_what_sklearn_counts(digits: tuple[Exported, Path]) -> None:
    from sklearn.metrics import accuracy_score

    from edgetfm.training.data import load_dataset, pixel_values

    exported, pictures = digits
    test = load_dataset("digits").test
    model = load(exported.bundle)
    logits = model.run(pixel_values=pixel_values(test.images))["logits"]
    names = [str(i) for i in test.labels]
    labels = model.bundle.manifest.labels
    wanted = accuracy_score(names, [labels[i] for i in logits.argmax(-1)])
    data = labelled(pictures, IMAGE, labels)
    assert data.count == len(test)
    assert 0.3 < wanted < 1.0
    assert judge(data, exported) == {"accuracy": pytest.approx(wanted, abs=1e-12)}


def test_pictures_may_be_named_in_a_table(digits: tuple[Exported, Path], tmp_path: Path) -> None:
    exported, pictures = digits
    files = sorted(pictures.glob("*/*.png"))[:40]
    lines = [f"{f.relative_to(pictures).as_posix()},{f.parent.name}\n" for f in files]
    (pictures / "a.csv").write_text("image,label\n" + "".join(lines), encoding="utf-8")
    labels = load(exported.bundle).bundle.manifest.labels
    data = labelled(pictures / "a.csv", IMAGE, labels)
    assert [e.asked for e in data.examples] == files
    assert judge(data, exported)["accuracy"] > 0.3
    (tmp_path / "b.csv").write_text("image,label\nnone.png,1\n", encoding="utf-8")
    with pytest.raises(DataError, match="row 2: no image at"):
        labelled(tmp_path / "b.csv", IMAGE, labels)


def test_a_link_out_of_the_folder_of_a_table_is_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "a.png").write_bytes(b"outside")
    (folder / "a.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"image 'a.png' is not in the folder of the table"):
        labelled(write(folder / "a.jsonl", [{"image": "a.png", "label": 0}]), IMAGE, NAMES)


# --- the other tasks ----------------------------------------------------------------------------


def test_entities_are_counted_by_words(
    tiny_bundle: Callable[..., Exported], texts: list[str], tmp_path: Path
) -> None:
    exported = tiny_bundle("bert", "token-classification")
    pipe = pipeline(exported.bundle)
    rows, right = [], 0
    for text in texts[:4]:
        words = text.lower().split()
        joined, at, labels = " ".join(words), 0, []
        tokens = {t["start"]: t["entity"] for t in reversed(pipe(joined, ignore_labels=()))}
        for word in words:
            labels.append(tokens.get(at, "O"))
            at += len(word) + 1
        rows.append({"tokens": words, "labels": labels})
        right += len(words)
    data = labelled(write(tmp_path / "a.jsonl", rows), TOKEN, TAGS)
    assert data.metric_name == "f1"
    assert judge(data, exported) == {"f1": 1.0, "accuracy": 1.0}
    rows[0]["labels"][0] = "O" if rows[0]["labels"][0] != "O" else "B-LOC"
    worse = judge(labelled(write(tmp_path / "b.jsonl", rows), TOKEN, TAGS), exported)
    assert worse["accuracy"] == pytest.approx(1 - 1 / right)
    assert worse["f1"] < 1


def test_tags_without_entities_are_measured_by_accuracy(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"tokens": ["a", "b"], "ner_tags": [0, "VERB"]}])
    assert labelled(file, TOKEN, ("NOUN", "VERB")).metric_name == "accuracy"


def test_answers_are_compared_as_squad_does(
    tiny_bundle: Callable[..., Exported], texts: list[str], tmp_path: Path
) -> None:
    exported = tiny_bundle("bert", "question-answering")
    pairs = [("Who sold it?", texts[0]), ("What rose?", texts[1]), ("Who moved?", texts[2])]
    found = [a["answer"] for a in pipeline(exported.bundle)(pairs)]
    rows = [
        {"question": pairs[0][0], "context": pairs[0][1], "answer": f"The {found[0]}!"},
        {"question": pairs[1][0], "context": pairs[1][1], "answers": {"text": ["x", found[1]]}},
        {"question": pairs[2][0], "context": pairs[2][1], "answers": ["zebra"]},
    ]
    data = labelled(write(tmp_path / "a.jsonl", rows), QUESTION)
    found = judge(data, exported)
    assert data.metric_name == "f1"
    assert found["exact_match"] == pytest.approx(2 / 3)
    assert found["f1"] == pytest.approx(2 / 3)


def test_a_question_may_have_no_answer(
    tiny_bundle: Callable[..., Exported], texts: list[str], tmp_path: Path
) -> None:
    exported = tiny_bundle("bert", "question-answering")
    found = pipeline(exported.bundle)(("Who?", texts[0]), handle_impossible_answer=True)
    row = {"question": "Who?", "context": texts[0], "answers": {"text": [], "answer_start": []}}
    data = labelled(write(tmp_path / "a.jsonl", [row]), QUESTION)
    assert data.examples[0].wanted == ("",)
    assert judge(data, exported)["exact_match"] == float(found["answer"] == "")


def test_masked_texts_give_the_perplexity_of_hidden_tokens(
    tiny_bundle: Callable[..., Exported], texts: list[str], tmp_path: Path
) -> None:
    exported = tiny_bundle("bert", "fill-mask")
    file = tmp_path / "a.txt"
    file.write_text("\n".join(texts), encoding="utf-8")
    data = labelled(file, MASKED)
    assert data.metric_name == "perplexity"
    assert not data.higher_is_better
    pipe = pipeline(exported.bundle)
    first = judge(data, exported)
    assert first == judge(data, exported)
    size = pipe.preprocessor.text_encoder.tokenizer.get_vocab_size()

    def even(feeds: Feeds) -> Feeds:
        return {"logits": np.zeros((*feeds["input_ids"].shape, size), np.float32)}

    assert data.score(asked(data, even, pipe)).value == pytest.approx(size)

    def broken(feeds: Feeds) -> Feeds:
        return {"logits": np.full((*feeds["input_ids"].shape, size), np.nan, np.float32)}

    assert math.isnan(data.score(asked(data, broken, pipe)).value)


@pytest.mark.slow
def test_the_perplexity_is_that_of_the_loss_in_transformers(
    masked_lm_bundle: Exported, texts: list[str], tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForMaskedLM

    (tmp_path / "a.txt").write_text(" ".join(texts), encoding="utf-8")
    pipe = pipeline(masked_lm_bundle.bundle)
    seen: list[Feeds] = []

    def run(feeds: Feeds) -> Feeds:
        seen.append(feeds)
        return pipe.model.run(feeds)

    data = labelled(tmp_path / "a.txt", MASKED)
    found = data.score(asked(data, run, pipe)).value
    (hidden,) = seen
    whole = pipe.preprocessor.texts([" ".join(texts)])["input_ids"]
    labels = np.where(hidden["input_ids"] == whole, -100, whole)
    assert 10 < (labels >= 0).sum() < whole.size / 5
    model = AutoModelForMaskedLM.from_pretrained(masked_lm_bundle.source).eval()
    inputs = {name: torch.tensor(array) for name, array in hidden.items()}
    loss = model(**inputs, labels=torch.tensor(labels)).loss.item()
    assert found == pytest.approx(np.exp(loss), rel=1e-4)


SIMILAR = [
    ("A man plays the guitar.", "Someone is playing a guitar.", 4.8),
    ("The cat sleeps on the sofa.", "A cat is asleep on a couch.", 4.6),
    ("She bought bread and milk.", "She went shopping for groceries.", 3.2),
    ("The train left at nine.", "The bus arrived at ten.", 2.0),
    ("It rained all night in Oslo.", "Shares of the bank fell.", 0.2),
    ("He repairs old clocks.", "The soup needs more salt.", 0.1),
]


@pytest.mark.slow
def test_similar_sentences_stand_in_the_order_of_their_scores(
    minilm_bundle: Exported, tmp_path: Path
) -> None:
    rows = [dict(zip(("sentence1", "sentence2", "score"), row, strict=True)) for row in SIMILAR]
    data = labelled(write(tmp_path / "a.jsonl", rows), SENTENCE)
    assert judge(data, minilm_bundle)["spearman"] > 0.85
    turned = [row | {"score": -row["score"]} for row in rows]
    file = write(tmp_path / "b.jsonl", turned)
    assert judge(labelled(file, SENTENCE), minilm_bundle)["spearman"] < -0.85


def test_spearman_is_of_cosines_and_scores(
    tiny_bundle: Callable[..., Exported], texts: list[str], tmp_path: Path
) -> None:
    from scipy.stats import spearmanr

    exported = tiny_bundle("bert", "feature-extraction")
    rows = [
        {"sentence1": a, "sentence2": b, "score": str(i % 4)}
        for i, (a, b) in enumerate((a, b) for a in texts for b in texts if a < b)
    ]
    one, other = (
        np.asarray(pipeline(exported.bundle)([r[k] for r in rows], batch_size=8), np.float64)
        for k in ("sentence1", "sentence2")
    )
    cosine = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    wanted = spearmanr(cosine, [float(r["score"]) for r in rows]).statistic
    found = judge(labelled(write(tmp_path / "a.jsonl", rows), SENTENCE), exported)
    assert found == {"spearman": pytest.approx(wanted, abs=1e-6)}


# --- two halves ---------------------------------------------------------------------------------


def test_a_rows_side_depends_on_its_text_alone(tmp_path: Path) -> None:
    rows = [{"text": f"text {i}", "label": NAMES[i % 3]} for i in range(400)]
    whole = labelled(write(tmp_path / "a.jsonl", rows), TEXT, NAMES)
    judged, tested = whole.split()
    assert judged.count + tested.count == 400
    assert 140 < judged.count < 260
    turned = labelled(write(tmp_path / "b.jsonl", rows[::-1]), TEXT, NAMES)
    assert set(turned.split()[0].examples) == set(judged.examples)
    assert turned.fingerprint == whole.fingerprint
    fewer = labelled(write(tmp_path / "c.jsonl", rows[:200]), TEXT, NAMES).split()[0]
    assert set(fewer.examples) <= set(judged.examples)


def test_equal_texts_are_on_one_side(tmp_path: Path) -> None:
    rows = [{"text": f"text {i % 20}", "label": NAMES[i % 3]} for i in range(60)]
    judged, tested = labelled(write(tmp_path / "a.jsonl", rows), TEXT, NAMES).split()
    assert not {e.asked for e in judged.examples} & {e.asked for e in tested.examples}


def test_too_few_rows_cannot_be_divided(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"text": "x", "label": 0}])
    with pytest.raises(DataError, match="1 items, too few to judge by one half"):
        labelled(file, TEXT, NAMES).split()


# --- what cannot be used ------------------------------------------------------------------------


def test_all_rows_that_cannot_be_used_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("text,label\nx,good\n,bad\ny,ugly\nz\nw,7\n", encoding="utf-8")
    with pytest.raises(DataError) as error:
        labelled(file, TEXT, NAMES)
    said = str(error.value).splitlines()
    assert "takes a .csv, .jsonl or .parquet file with text and label" in said[0]
    assert said[1:] == [
        "  - row 3: 'text' has no text",
        "  - row 4: label 'ugly' is none of the model's: bad, fair, good",
        "  - row 5: no 'label'; it has text",
        "  - row 6: label '7' is none of the model's: bad, fair, good",
    ]


def test_of_many_problems_twenty_are_listed(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"text": "x", "label": "?"}] * 50)
    with pytest.raises(DataError, match="and 30 more") as error:
        labelled(file, TEXT, NAMES)
    assert len(str(error.value).splitlines()) == 22


@pytest.mark.parametrize(
    ("task", "row", "said"),
    [
        (TOKEN, {"tokens": ["a", "b"], "labels": ["O"]}, "2 tokens, but 1 labels"),
        (TOKEN, {"tokens": "a b", "labels": ["O"]}, "'tokens' is no list of words"),
        (TOKEN, {"tokens": ["a"], "labels": ["B-ORG"]}, "label 'B-ORG' is none of the model's"),
        (QUESTION, {"question": "a?", "context": "b"}, "no 'answer'; it has question, context"),
        (QUESTION, {"question": "a?", "context": "b", "answer": 3}, "neither a text nor a list"),
        (SENTENCE, {"sentence1": "a", "sentence2": "b", "score": "high"}, "'high' is no number"),
        (SENTENCE, {"text1": "a", "text2": "b", "score": 10**400}, "score 10+ is no number"),
        (TEXT, {"text": "a\ud800", "label": 0}, "'text' has half a surrogate pair"),
        (TOKEN, {"tokens": ["\ud800"], "labels": ["O"]}, "'tokens' is no list of words"),
        (TEXT, {"text": "a", "label": 10**400}, "label 10+ is none of the model's"),
        (IMAGE, {"image": "a" * 5000, "label": 0}, "no image at 'aaa"),
        (IMAGE, {"image": "a\0", "label": 0}, "is not in the folder of the table"),
        (IMAGE, {"image": "/proc/self/mem", "label": 0}, "is not in the folder of the table"),
        (IMAGE, {"image": "../a.png", "label": 0}, "is not in the folder of the table"),
        (IMAGE, {"image": "\ud800", "label": 0}, "'image' has half a surrogate pair"),
        (SENTENCE, {"sentence1": "a", "sentence2": "b", "score": 1}, "all scores are equal"),
        (SENTENCE, {"sentence1": "a", "score": 1}, "no 'sentence2' or 'text2'"),
        (MASKED, {"text": 5}, "'text' has no text"),
    ],
)
def test_rows_that_do_not_fit_the_task_say_why(
    task: Any, row: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said.replace("?", r"\?")):
        labelled(write(tmp_path / "a.jsonl", [row]), task, TAGS if task is TOKEN else NAMES)


def test_places_without_labelled_data_are_said(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("text,label\n")
    (tmp_path / "a.txt").write_text("a text\n")
    for spec, task, said in (
        (tmp_path / "none.csv", TEXT, "no labelled data at .*give a file, a folder, or module"),
        (tmp_path / "empty.csv", TEXT, "holds nothing to judge by"),
        (tmp_path / "a.txt", TEXT, "cannot be used for text-classification"),
        (tmp_path, TEXT, "cannot be used for text-classification"),
        (tmp_path, IMAGE, "holds nothing to judge by; image-classification takes a folder"),
        (tmp_path / "a.txt", TASKS["image-feature-extraction"], "give --eval module:function"),
    ):
        with pytest.raises(DataError, match=said):
            read_eval(str(spec), task, NAMES)
    with pytest.raises(DataError, match="one output has no accuracy"):
        read_eval(str(tmp_path / "empty.csv"), TEXT, ("score",))


# --- a user's function --------------------------------------------------------------------------

MODULE = """
def share_of_good(pipe):
    answers = pipe(["a slow film", "the water rose", "he sold his boat"], batch_size=2)
    return sum(a["label"] == "good" for a in answers) / len(answers)

def loss(pipe):
    return 2.5

loss.higher_is_better = False

def fails(pipe):
    raise KeyError("nothing here")

def says_nothing(pipe):
    return None

def no_number(pipe):
    return float("nan")

def enormous(pipe):
    return 10**400

def leaves(pipe):
    import sys
    sys.exit(0)

def closes(pipe):
    raise GeneratorExit

def interrupted(pipe):
    raise KeyboardInterrupt

class Odd:
    def __float__(self):
        raise self.error

    def __repr__(self):
        raise ValueError("no words")

def odd(pipe, error=RuntimeError("z")):
    found = Odd()
    found.error = error
    return found

def wordless(pipe):
    return odd(pipe, TypeError("z"))

def undecided(pipe):
    return 0.5

class Both:
    def __bool__(self):
        raise ValueError("ambiguous")

undecided.higher_is_better = Both()

constant = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the working directory, which is on no path."""
    name = f"judge_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / f"broken_{name}.py").write_text("1 / 0\n")
    (tmp_path / f"leaving_{name}.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.chdir(tmp_path)
    return name


def metric_of(module: str, function: str) -> UserMetric:
    found = read_eval(f"{module}:{function}", TEXT, NAMES)
    assert isinstance(found, UserMetric)
    return found


def test_a_function_of_the_working_directory_measures_a_pipeline(
    module: str, tiny_bundle: Callable[..., Exported]
) -> None:
    pipe = pipeline(tiny_bundle("bert", "text-classification").bundle)
    texts = ["a slow film", "the water rose", "he sold his boat"]
    wanted = sum(a["label"] == "good" for a in pipe(texts)) / 3
    found = metric_of(module, "share_of_good")
    assert found.score(pipe).value == wanted
    assert found.metric_name == "share_of_good"
    assert found.higher_is_better
    assert found.split() == (found, found)
    assert not metric_of(module, "loss").higher_is_better
    assert metric_of(module, "loss").score(pipe).value == 2.5


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("fails", "fails failed: KeyError: 'nothing here'"),
        ("says_nothing", "says_nothing gave None, expected a finite number"),
        ("no_number", "no_number gave nan, expected a finite number"),
        ("enormous", "enormous gave 10+, expected a finite number"),
        ("leaves", "leaves failed: SystemExit: 0"),
        ("closes", "closes failed: GeneratorExit"),
        ("odd", "odd failed: RuntimeError: z"),
        ("wordless", "wordless gave a Odd that cannot be shown, expected a finite number"),
    ],
)
def test_a_function_that_fails_is_named(
    module: str, function: str, said: str, tiny_bundle: Callable[..., Exported]
) -> None:
    pipe = pipeline(tiny_bundle("bert", "text-classification").bundle)
    with pytest.raises(InputError, match=said):
        metric_of(module, function).score(pipe)


def test_an_interrupt_in_a_function_is_an_interrupt(
    module: str, tiny_bundle: Callable[..., Exported]
) -> None:
    pipe = pipeline(tiny_bundle("bert", "text-classification").bundle)
    with pytest.raises(KeyboardInterrupt):
        metric_of(module, "interrupted").score(pipe)


def test_a_function_that_cannot_be_found_is_said(module: str) -> None:
    for spec, said in (
        (f"{module}:none", "has no function 'none'"),
        (f"{module}:constant", "is int, expected a function"),
        (f"broken_{module}:any", "cannot be imported: ZeroDivisionError"),
        (f"leaving_{module}:any", "cannot be imported: SystemExit: 0"),
        (f"{module}:undecided", "undecided.higher_is_better failed: ValueError: ambiguous"),
        ("a" * 5000, "no labelled data at"),
        ("no_such_module_here:any", "cannot be imported: ModuleNotFoundError"),
    ):
        with pytest.raises(InputError, match=said):
            read_eval(spec, TEXT, NAMES)
