"""The commands on a real, tiny model, from export to inspect."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import edgetfm.runtime.doctor
import edgetfm.workflow.about
import edgetfm.workflow.bench
import edgetfm.workflow.verify
from edgetfm.bundle import open_bundle
from edgetfm.cli import main
from edgetfm.errors import OutputError
from edgetfm.ledger import Ledger, Rung
from edgetfm.parity import Measures
from edgetfm.runtime.machine import machine

Json = dict[str, Any]


@pytest.fixture(scope="module")
def model(tiny_hf: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_hf("bert", "text-classification", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A bundle, and what its export printed on stdout."""
    folder = tmp_path_factory.mktemp("made")
    with (folder / "printed").open("w+") as printed:
        stdout = os.dup(1)
        os.dup2(printed.fileno(), 1)
        try:
            assert main(["export", str(model), "-o", str(folder / "bundle")]) == 0
        finally:
            os.dup2(stdout, 1)
            os.close(stdout)
        printed.seek(0)
        return folder / "bundle", printed.read()


@pytest.fixture(scope="module")
def bundle(made: tuple[Path, str]) -> Path:
    return made[0]


@pytest.fixture
def ask(capfd: pytest.CaptureFixture[str]) -> Callable[..., Json]:
    """ask(*words): the object a command prints with --json."""

    def call(*words: Any, code: int = 0) -> Json:
        capfd.readouterr()
        assert main([*map(str, words), "--json"]) == code, capfd.readouterr().err
        out, _ = capfd.readouterr()
        found = json.loads(out)
        assert isinstance(found, dict)
        return found

    return call


def test_export_prints_the_ledger_and_where_the_report_is(made: tuple[Path, str]) -> None:
    bundle, printed = made
    assert "every bound holds" in printed
    assert "fp32 graph" in printed
    assert f"report: {bundle / 'report.html'}" in printed


def test_an_output_that_exists_needs_force(
    model: Path, bundle: Path, ask: Callable[..., Json]
) -> None:
    before = (bundle / "edgetfm.json").stat().st_ino
    error = ask("export", model, "-o", bundle, code=2)["error"]
    assert error["type"] == "OutputError"
    assert "--force" in error["message"]
    assert (bundle / "edgetfm.json").stat().st_ino == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere", "-o", "out"], "nowhere"),
        (["MODEL", "-o", "out", "--task", "juggling"], "juggling"),
        (["MODEL", "-o", "out", "--max-drop", "much"], "cosine:0.995"),
        (["MODEL", "-o", "out", "--quantize", "--calibration", "no.txt"], "no.txt"),
        (["MODEL"], "--output"),
    ],
)
def test_bad_input_ends_with_2_and_writes_nothing(
    words: list[str],
    said: str,
    model: Path,
    tmp_path: Path,
    ask: Callable[..., Json],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    error = ask("export", *(str(model) if w == "MODEL" else w for w in words), code=2)["error"]
    assert said in error["message"]
    assert list(tmp_path.iterdir()) == []


def test_a_budget_that_cannot_be_held_ends_with_3_and_writes_nothing(
    model: Path, tmp_path: Path, ask: Callable[..., Json]
) -> None:
    words = ["export", "--quantize", "int8", model, "-o", tmp_path / "out"]
    error = ask(*words, "--max-drop", "max_abs:0", code=3)["error"]
    assert error["type"] == "BudgetError"
    assert "max_abs" in error["message"]
    assert list(tmp_path.iterdir()) == []


def test_verify_replays_the_proof(bundle: Path, ask: Callable[..., Json]) -> None:
    found = ask("verify", bundle)
    assert found["passed"] is True
    assert {r["against"] for r in found["rungs"]} == {"PyTorch", "the exporting CPU"}


def test_verify_asks_pytorch_again(model: Path, bundle: Path, ask: Callable[..., Json]) -> None:
    found = ask("verify", bundle, "--reference", model)
    assert found["passed"] is True
    assert any(str(model) in r["against"] for r in found["rungs"])


def test_verify_ends_with_3_where_a_bound_is_missed(
    bundle: Path, ask: Callable[..., Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = {"logits": Measures(1, 1.0, 1.0, 1.0, 0.5, 0.5)}
    missed = Rung("int8 on cpu", "PyTorch", measured, "cosine:0.9", "", ("cosine 0.5 < 0.9",))
    ledger = Ledger([missed], machine())
    monkeypatch.setattr(edgetfm.workflow.verify, "verify_bundle", lambda *a, **k: ledger)
    found = ask("verify", bundle, code=3)
    assert found["passed"] is False
    assert found["error"]["exit_code"] == 3
    assert "cosine 0.5 < 0.9" in found["error"]["message"]
    report = bundle / "report.html"
    kept = report.read_bytes()

    def full(*_: Any) -> None:
        raise OutputError("the disk is full")

    with monkeypatch.context() as patch:  # a report that fails must not hide it
        patch.setattr(edgetfm.workflow.about, "write_atomic", full)
        assert ask("verify", bundle, "--report", report, code=3)["rungs"]
    assert report.read_bytes() == kept


@pytest.mark.parametrize("place", ["none/x.html", ".", "bundle/edgetfm.json", "bundle/x.html"])
def test_a_place_for_a_report_is_refused_before_the_work(
    place: str, bundle: Path, ask: Callable[..., Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> Ledger:
        raise AssertionError("it was verified")

    monkeypatch.setattr(edgetfm.workflow.verify, "verify_bundle", never)
    error = ask("verify", bundle, "--report", bundle.parent / place, code=2)["error"]
    assert error["type"] == "OutputError"
    open_bundle(bundle)


def test_a_tampered_bundle_is_refused(
    bundle: Path, tmp_path: Path, ask: Callable[..., Json]
) -> None:
    import shutil

    copy = shutil.copytree(bundle, tmp_path / "copy")
    with (copy / "tokenizer.json").open("a") as file:
        file.write(" ")
    for words in (("verify", copy), ("run", copy, "text"), ("inspect", copy)):
        assert ask(*words, code=2)["error"]["type"] == "BundleError"


def test_run_answers_each_text(bundle: Path, ask: Callable[..., Json]) -> None:
    found = ask("run", bundle, "The old captain", "a slow, quiet film")
    assert [a["input"] for a in found["answers"]] == ["The old captain", "a slow, quiet film"]
    (best, *_) = found["answers"][0]["output"]
    assert best["label"] in ("bad", "fair", "good")
    assert 0 <= best["score"] <= 1


def test_run_answers_an_empty_text(bundle: Path, ask: Callable[..., Json]) -> None:
    (answer,) = ask("run", bundle, "")["answers"]
    assert answer["input"] == ""
    assert answer["output"][0]["label"] in ("bad", "fair", "good")


def test_run_says_that_a_text_was_cut(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(bundle), "the old captain sold his boat " * 50]) == 0
    assert "were cut" in capfd.readouterr().err


def test_run_reads_lines_from_stdin(
    bundle: Path,
    ask: Callable[..., Json],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n\ntwo\r\n"))
    found = ask("run", bundle, "zero", "-")
    assert [a["input"] for a in found["answers"]] == ["zero", "one", "two"]
    assert main(["run", str(bundle), "zero"]) == 0
    assert capfd.readouterr().out.startswith("zero\n  0.")


def test_run_refuses_stdin_that_is_no_text(
    bundle: Path, ask: Callable[..., Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a \xff"), encoding="utf-8"))
    assert "stdin is not utf-8 text" in ask("run", bundle, "-", code=2)["error"]["message"]


def test_an_interrupt_ends_with_130(bundle: Path) -> None:
    code = (  # a shell in the background may have left SIGINT ignored
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from edgetfm.cli import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", code, "run", str(bundle), "-"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, bufsize=1, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("one\n")
        assert process.stdout.readline() == "one\n"  # answered: now it waits for the next line
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "edgetfm: interrupted"  # click breaks the line of the terminal's ^C


def test_a_context_is_for_questions(bundle: Path, ask: Callable[..., Json]) -> None:
    error = ask("run", bundle, "who?", "--context", "Ada wrote it.", code=2)["error"]
    assert "question-answering" in error["message"]


def test_export_tells_what_it_made_and_run_answers_questions(
    tiny_hf: Callable[..., Path], tmp_path: Path, ask: Callable[..., Json]
) -> None:
    model = tiny_hf("bert", "question-answering", tmp_path / "model")
    made = ask("export", model, "-o", tmp_path / "bundle", "--task", "qa")
    assert made["task"] == "question-answering"
    assert (made["family"], made["route"], made["variant"]) == ("bert", "native", "fp32")
    assert made["ledger"]["passed"] is True
    assert made["tried"][0]["precision"] == "fp32"
    assert Path(made["path"], "report.html").is_file()
    on_disk = sum(p.stat().st_size for p in Path(made["path"]).rglob("*") if p.is_file())
    assert 0 < made["bytes"] <= on_disk

    context = "The old captain from Lisbon sold his boat."
    found = ask("run", tmp_path / "bundle", "where does the water go", "--context", context)
    answer = found["answers"][0]["output"]
    assert answer["answer"] == context[answer["start"] : answer["end"]]
    error = ask("run", tmp_path / "bundle", "where?", code=2)["error"]
    assert "--context" in error["message"]


def test_a_device_that_is_not_there_ends_with_4(bundle: Path, ask: Callable[..., Json]) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has the device")
    assert ask("run", bundle, "text", "--device", "cuda", code=4)["error"]["exit_code"] == 4


def test_bench_measures(bundle: Path, ask: Callable[..., Json]) -> None:
    found = ask("bench", bundle, "--batch", 2, "--sequence", 16, "--runs", 3)
    assert (found["batch"], found["sequence"], found["threads"], found["runs"]) == (2, 16, 1, 3)
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p95"]
    assert found["load_ms"] > 0
    assert found["peak_memory_mb"] > 0


def test_a_bench_reads_what_it_is_held_against_before_it_runs(
    bundle: Path, tmp_path: Path, ask: Callable[..., Json], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(edgetfm.workflow.bench, "device_named")  # so that nothing can run
    (tmp_path / "old.json").write_text("{}")
    error = ask("bench", bundle, "--compare", tmp_path / "old.json", code=2)["error"]
    assert "no result of" in error["message"]


def test_devices_to_install_are_named(
    ask: Callable[..., Json],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(edgetfm.runtime.doctor, "examine", list)  # it imports every extra
    error = ask("doctor", "--install", ",", code=4)["error"]
    assert "no device is named; known are cpu, " in error["message"]
    assert main(["doctor", "--install", "cpu"]) == 0
    assert "cpu: nothing is to be installed" in capfd.readouterr().err


def test_inspect_tells_what_a_bundle_is(
    bundle: Path, ask: Callable[..., Json], capfd: pytest.CaptureFixture[str]
) -> None:
    found = ask("inspect", bundle)
    assert found["schema"] == 1
    assert found["labels"] == ["bad", "fair", "good"]
    assert main(["inspect", str(bundle)]) == 0
    out, _ = capfd.readouterr()
    assert "input_ids int64[batch, sequence]" in out
    assert "steps hold" in out


@pytest.mark.parametrize("ledger", [b"", b"\xff", b"[]", b'{"rungs": [3]}', b'{"rungs": []}'])
def test_inspect_refuses_a_damaged_ledger(
    ledger: bytes, bundle: Path, tmp_path: Path, ask: Callable[..., Json]
) -> None:
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    (copy / "parity.json").write_bytes(ledger)
    assert "parity.json is damaged" in ask("inspect", copy, code=2)["error"]["message"]


def test_inspect_tells_what_a_model_is(model: Path, ask: Callable[..., Json]) -> None:
    found = ask("inspect", model)
    assert (found["kind"], found["family"]) == ("huggingface", "bert")
    assert found["config"]["width"] == 32


def test_quantize_adds_a_variant_to_a_bundle(
    bundle: Path, tmp_path: Path, ask: Callable[..., Json]
) -> None:
    # A random model has no answers to keep: what is lost is not the question here.
    words = ["quantize", bundle, "--precision", "int8", "--max-drop", "cosine:-1"]
    found = ask(*words, "-o", tmp_path / "smaller", "--keep-fp32")
    assert found["variant"] == "int8"
    variants = ask("inspect", tmp_path / "smaller")["components"]["model"]["variants"]
    assert set(variants) == {"fp32", "int8"}
    assert ask("run", tmp_path / "smaller", "a film", "--precision", "fp32")["answers"]
    ask(*words, "-o", tmp_path / "only")
    variants = ask("inspect", tmp_path / "only")["components"]["model"]["variants"]
    assert set(variants) == {"int8"}


def test_train_export_run_on_pictures(tmp_path: Path, ask: Callable[..., Json]) -> None:
    checkpoint, bundle = tmp_path / "checkpoint", tmp_path / "bundle"
    words = ["train", "vit-digits", "-o", checkpoint, "--set", "epochs=1"]
    trained = ask(*words, "--set", "model.layers=1", "--set", "model.width=32")
    assert Path(trained["checkpoint"]) == checkpoint
    assert ask("export", checkpoint, "-o", bundle)["task"] == "image-classification"
    pictures = sorted((checkpoint / "examples").glob("*.png"))
    answers = ask("run", bundle, *pictures)["answers"]
    assert [a["input"] for a in answers] == [str(p) for p in pictures]
    assert all(a["output"][0]["label"] in "0123456789" for a in answers)


@pytest.mark.parametrize("setting", ["epochs", "=3"])
def test_a_setting_is_key_and_value(setting: str, tmp_path: Path, ask: Callable[..., Json]) -> None:
    error = ask("train", "vit-digits", "-o", tmp_path / "x", "--set", setting, code=2)["error"]
    assert "KEY=VALUE" in error["message"]
