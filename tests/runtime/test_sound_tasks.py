"""Models of speech answer in the form of Hugging Face's pipelines, and as they do."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import transformers

from edgetfm import export_model, samples
from edgetfm.errors import DataError, InputError
from edgetfm.invariants import compare_alone
from edgetfm.proof import Subject
from edgetfm.runtime.pipelines import Pipeline, pipeline
from edgetfm.runtime.tasks import sounds
from edgetfm.scoring.evaluation import read_eval
from edgetfm.scoring.metrics import word_error_rate
from edgetfm.tasks import TASKS

RATE = 16_000


@pytest.fixture(scope="module")
def folder(tiny_speech: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_speech(tmp_path_factory.mktemp("speech") / "source")


@pytest.fixture(scope="module")
def speech(folder: Path) -> Pipeline:
    result = export_model(folder, folder.parent / "bundle")
    assert (result.route, result.task) == ("adapter", "automatic-speech-recognition")
    assert result.ledger.passed
    alone = next(rung for rung in result.ledger.rungs if rung.name == "fp32 alone")
    assert alone.measures["logits"].rows > 100  # frames: a row alone is that of a padded batch
    return pipeline(result.path)


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return transformers.pipeline("automatic-speech-recognition", model=str(folder), device="cpu")


WAVES = [samples.speech(i, seconds) for i, seconds in enumerate((1.3, 0.4, 2.1))]


def test_speech_is_written_as_transformers_writes_it(speech: Pipeline, theirs: Any) -> None:
    wanted = [theirs({"raw": wave, "sampling_rate": RATE})["text"] for wave in WAVES]
    assert len(set(wanted)) == 3
    assert [speech(wave)["text"] for wave in WAVES] == wanted
    assert [a["text"] for a in speech(WAVES, batch_size=3)] == wanted


def test_a_file_at_another_rate_is_the_same_speech(speech: Pipeline, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "speech.wav", WAVES[0], RATE, subtype="FLOAT")
    assert speech(tmp_path / "speech.wav") == speech(WAVES[0])
    assert speech(str(tmp_path / "speech.wav")) == speech(
        {"array": WAVES[0], "sampling_rate": RATE}
    )
    lower = (WAVES[0][::2], RATE // 2)
    assert set(speech(lower)) == {"text"}


def test_parts_of_long_speech_hold_every_frame_once(speech: Pipeline) -> None:
    reader = speech.preprocessor.audio_reader
    for seconds, count in ((1.0, 20_480), (1.2, 47_777), (2.0, 32_001), (30.0, 1_000)):
        wave = np.arange(count, dtype=np.float32)
        kept = []
        for part, first, end in sounds.parts_of(reader, wave, seconds):
            frames = part[: reader.positions(part.size) * 320 : 320]
            kept.append(frames[first:end])
            assert part.size <= seconds * RATE + 400
        np.testing.assert_array_equal(
            np.concatenate(kept), wave[: reader.positions(count) * 320 : 320]
        )


def test_long_speech_is_heard_in_parts_and_said_so(
    speech: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = samples.speech(9, 5.0)
    parts = speech(long, chunk_length_s=2.0)["text"]
    whole = speech(long)["text"]
    same = sum(a == b for a, b in zip(parts, whole, strict=False))
    assert same > 0.1 * len(whole)
    monkeypatch.setattr(sounds, "LONGEST_S", 4.0)
    monkeypatch.setattr(sounds, "CHUNK_S", 2.0)
    with pytest.warns(UserWarning, match=r"5 s is heard in parts of 2 s"):
        assert speech(long)["text"] == parts
    with pytest.raises(InputError, match="chunk_length_s"):
        speech(long, chunk_length_s=0.0)


def test_frames_of_padding_are_left_out_of_what_is_compared(speech: Pipeline) -> None:
    subject = Subject.of_bundle(speech.model.bundle.manifest)
    reader = speech.preprocessor.audio_reader
    feeds = reader([WAVES[2], WAVES[1]])
    answer = speech.model.run(feeds)
    short = subject.task.outputs[0].length(WAVES[1].size)
    assert short == reader.positions(WAVES[1].size) < answer["logits"].shape[1]
    spoiled = {"logits": answer["logits"].copy()}
    spoiled["logits"][1, short:] += 7.0
    assert subject.compare([spoiled], [answer], [feeds]).measures()["logits"].max_abs == 0
    spoiled["logits"][1, short - 1] += 7.0
    found = subject.compare([spoiled], [answer], [feeds]).measures()["logits"]
    assert found.max_abs == pytest.approx(7)
    found = compare_alone(subject, speech.model.run, [feeds], [answer]).measures()["logits"]
    assert found.rows == short + subject.task.outputs[0].length(WAVES[2].size)
    assert found.max_error < 1e-5


def test_other_tasks_of_sounds_have_their_forms(speech: Pipeline) -> None:
    """The graph is the one that writes; only how it is read differs."""
    heard = replace(speech.asked, labels=tuple("abc"))
    first = sounds.classify_frames(heard, [WAVES[1]])[0]
    assert len(first) == speech.preprocessor.audio_reader.positions(WAVES[1].size)
    assert list(first[0])[:4] == ["a", "b", "c", "LABEL_3"]
    assert all(0 <= score <= 1 for score in first[0].values())
    states = sounds.embed_sounds(heard, WAVES, output="logits", batch_size=2)
    assert [len(s) for s in states] == [
        speech.preprocessor.audio_reader.positions(w.size) for w in WAVES
    ]
    with pytest.raises(InputError, match="no output 'audio_embedding'"):
        sounds.embed_sounds(heard, WAVES)


def test_words_are_counted_as_word_error_rate_counts_them() -> None:
    assert word_error_rate(["the cat sat"], ["THE CAT SAT"]) == 0
    assert word_error_rate(["the cat sat"], ["the hat sat"]) == pytest.approx(1 / 3)
    assert word_error_rate(["the cat sat"], [""]) == 1
    assert word_error_rate(["a b", "c d"], ["x a b", "d"]) == pytest.approx(2 / 4)
    assert word_error_rate(["Don't, she said!"], ["don't she said"]) == 0
    assert np.isnan(word_error_rate([""], ["a"]))


def test_recordings_with_transcripts_are_judged_by_words(speech: Pipeline, tmp_path: Path) -> None:
    rows = []
    for i, wave in enumerate(WAVES):
        soundfile.write(tmp_path / f"{i}.wav", wave, RATE, subtype="FLOAT")
        rows.append((f"{i}.wav", speech(wave)["text"] if i else "SOMETHING ELSE"))
    table = tmp_path / "said.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("audio", "text"), *rows])
    data = read_eval(str(table), TASKS["automatic-speech-recognition"], ())
    assert (data.metric_name, data.higher_is_better, data.count) == ("wer", False, 3)
    found = data.score(speech).value
    wanted = word_error_rate([text for _, text in rows], [speech(w)["text"] for w in WAVES])
    assert found == pytest.approx(wanted)
    assert found > 0
    table.write_text("audio,text\n../9.wav,hello\nabsent.wav,hello\n0.wav,\n")
    with pytest.raises(DataError, match="audio and text") as caught:
        read_eval(str(table), TASKS["automatic-speech-recognition"], ())
    for said in ("not in the folder", "no audio at 'absent.wav'", "'text' has no text"):
        assert said in str(caught.value)


def test_what_is_no_sound_ends_in_a_sentence(speech: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no sound at"):
        speech(str(tmp_path / "absent.wav"))
    with pytest.raises(InputError, match="too short"):
        speech(np.zeros(100, np.float32))
    with pytest.raises(InputError, match="takes no text: give sounds"):
        speech.preprocessor.texts("hello")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert speech([]) == []
