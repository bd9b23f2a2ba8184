"""What an encoder-decoder writes is judged by people's metrics, in fp32 and in int8."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgetfm import export_model, pipeline, verify_bundle
from edgetfm.errors import DataError
from edgetfm.scoring.evaluation import LabelledData, read_eval
from edgetfm.scoring.metrics import word_error_rate
from edgetfm.tasks import TASKS
from tests.conftest import CORPUS
from tests.plain import Exported

WORDS = re.findall(r"\w+|[^\w\s]+", " ".join(CORPUS))
ANYTHING = "perplexity:9"
"""Random weights: only the metric is of interest."""


def write(file: Path, rows: list[dict[str, str]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture
def pairs(tiny_writer_bundle: Callable[..., Exported], tmp_path: Path) -> tuple[Exported, Path]:
    """A T5 that translates, and what it writes itself about a few sentences, but for one."""
    exported = tiny_writer_bundle("t5", "translation")
    sources = [" ".join(WORDS[i : i + 4]) for i in range(0, 40, 2)]
    found = [answer["translation_text"] for answer in pipeline(exported.bundle)(sources)]
    rows = [{"en": s, "de": t or "nothing"} for s, t in zip(sources, found, strict=True)]
    rows[0]["de"] = "something else altogether"
    return exported, write(tmp_path / "pairs.jsonl", rows)


def test_pairs_are_judged_by_bleu(pairs: tuple[Exported, Path]) -> None:
    exported, file = pairs
    data = read_eval(str(file), TASKS["translation"], ())
    assert isinstance(data, LabelledData)
    assert (data.metric_name, data.higher_is_better, data.count) == ("bleu", True, 20)
    assert 50 < data.score(pipeline(exported.bundle)).value < 100  # all but one are its own


@pytest.mark.slow
def test_pairs_are_judged_in_an_export_and_when_it_is_verified(
    pairs: tuple[Exported, Path], tmp_path: Path
) -> None:
    exported, file = pairs
    made = export_model(
        exported.source,
        tmp_path / "out",
        task="translation",
        quantize="int8",
        max_drop=ANYTHING,
        samples=8,
        evaluate=str(file),
        keep_fp32=True,
    )
    rungs = {r.name: r.metric for r in made.ledger.rungs if r.metric}
    assert set(rungs) == {"int8 bleu", "int8, test half bleu"}
    for metric in rungs.values():
        assert metric["name"] == "bleu"
        assert 50 < metric["reference"] <= 100  # its own texts
        assert metric["value"] <= 100
        assert metric["standard_error"] >= 0
    assert sum(metric["items"] for metric in rungs.values()) == 20
    found = {
        r.name: r.metric for r in verify_bundle(made.path, evaluate=str(file)).rungs if r.metric
    }
    data = read_eval(str(file), TASKS["translation"], ())
    for precision in ("fp32", "int8"):
        value = data.score(pipeline(made.path, precision=precision)).value
        assert found[f"{precision} bleu"]["value"] == value
        assert found[f"{precision} bleu"]["items"] == 20
    assert found["int8 bleu"]["reference"] == found["fp32 bleu"]["value"]


def test_pairs_without_a_target_are_refused_by_row(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"source": "a"}, {"source": "", "target": "b"}])
    with pytest.raises(DataError, match=r"row 1: no 'target' or .*\n.*row 2: 'source' has no text"):
        read_eval(str(file), TASKS["translation"], ())


def test_speech_that_is_written_is_judged_by_words(
    tiny_writer_bundle: Callable[..., Exported], tmp_path: Path
) -> None:
    exported = tiny_writer_bundle("whisper")
    random, hear = np.random.default_rng(0), pipeline(exported.bundle)
    rows = []
    for i in range(12):
        wave = (random.standard_normal(12_000) * random.random()).astype(np.float32)
        soundfile.write(tmp_path / f"{i}.wav", wave, 16_000, subtype="FLOAT")
        rows.append({"audio_filepath": f"{i}.wav", "text": f"{hear(wave)['text']} more"})
    file = write(tmp_path / "manifest.jsonl", rows)
    data = read_eval(str(file), TASKS["automatic-speech-recognition"], ())
    assert (data.metric_name, data.higher_is_better) == ("wer", False)
    said = [hear(str(tmp_path / row["audio_filepath"]))["text"] for row in rows]
    found = data.score(hear)
    assert found.value == pytest.approx(word_error_rate([r["text"] for r in rows], said))
    assert found.value > 0
