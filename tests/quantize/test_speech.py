"""A wav2vec2 that learned to write vowels keeps its words in int8, or is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import onnx
import pytest
import soundfile

from edgetfm import export_model, pipeline, verify_bundle
from edgetfm.scoring.metrics import word_error_rate
from tests.speech import RATE, train_speech, vowels

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_speech(tmp_path_factory.mktemp("trained") / "source")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of recordings, and what is said in them as said.csv, a sixth of it wrongly.

    A share of no errors at all is nothing that a budget could bind.
    """
    folder = tmp_path_factory.mktemp("recordings")
    rows = [("audio", "text")]
    for i, (wave, text) in enumerate(vowels(1, 60)):
        soundfile.write(folder / f"{i:02}.wav", wave, RATE, subtype="FLOAT")
        rows.append((f"{i:02}.wav", "U E U E" if i % 6 == 0 else text))
    with (folder / "said.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def test_int8_writes_the_same_words(trained: Path, recordings: Path, tmp_path: Path) -> None:
    result = export_model(trained, tmp_path / "bundle", quantize="int8", calibration=recordings)
    assert (result.variant, result.ledger.passed) == ("int8", True)
    graph = onnx.load(result.path / "onnx" / "model_int8.onnx").graph
    kinds = {node.op_type for node in graph.node}
    assert "MatMulInteger" in kinds
    assert "Conv" in kinds  # stays in float32
    assert verify_bundle(result.path).passed
    write = pipeline(result.path)
    spoken = vowels(2, 40)
    got = [write(wave)["text"] for wave, _ in spoken]
    assert word_error_rate([text for _, text in spoken], got) < 0.2


def test_transcripts_bind_the_word_error_rate(
    trained: Path, recordings: Path, tmp_path: Path
) -> None:
    result = export_model(
        trained,
        tmp_path / "bundle",
        quantize="fp16",
        calibration=recordings,
        evaluate=str(recordings / "said.csv"),
    )
    found = [rung for rung in result.ledger.rungs if rung.metric]
    assert {rung.metric["name"] for rung in found} == {"wer"}
    assert all(rung.passed and rung.bound == "2%" for rung in found)
    assert 0 < found[0].metric["reference"] < 0.5
