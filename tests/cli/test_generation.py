"""`edgetfm run` and `edgetfm chat` write text as it comes, and end when they are told."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgetfm import pipeline
from edgetfm.cli import _generation, main
from edgetfm.cli._output import Output
from edgetfm.errors import InputError

Ask = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def bundle(tiny_decoder_bundle: Callable[..., Any]) -> Path:
    found: Path = tiny_decoder_bundle("llama").bundle
    return found


@pytest.fixture
def ask(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """ask(*words, typed=..., code=0): what a command prints on stdout and stderr."""

    def call(*words: Any, typed: str = "", code: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        capfd.readouterr()
        assert main([*map(str, words)]) == code, capfd.readouterr().err
        found = capfd.readouterr()
        return found.out, found.err

    return call


def answer(bundle: Path, prompt: Any, **options: Any) -> str:
    (said,) = pipeline(bundle)(prompt, return_full_text=False, **options)
    text: str = said["generated_text"]
    return text


def test_run_prints_what_goes_on_from_the_prompt(bundle: Path, ask: Ask) -> None:
    wanted = answer(bundle, "The water", max_new_tokens=9)
    out, err = ask("run", bundle, "The water", "--max-new-tokens", 9)
    assert out == wanted + "\n"
    assert err == ""
    out, _ = ask("run", bundle, "-", "--max-new-tokens", 9, typed="The water\n\nThe water\n")
    assert out == f"{wanted}\n{wanted}\n"
    chat = [{"role": "user", "content": "The water"}]
    out, _ = ask("run", bundle, "The water", "--chat", "--max-new-tokens", 9)
    assert out == answer(bundle, chat, max_new_tokens=9) + "\n"


def test_run_has_every_option_of_sampling(bundle: Path, ask: Ask) -> None:
    words = ["--temperature", 1.3, "--top-k", 40, "--top-p", 0.95, "--min-p", 0.01]
    words += [
        "--repetition-penalty",
        1.2,
        "--seed",
        3,
        "--lookup",
        4,
        "--stop",
        "zz",
        "--stop",
        "q",
    ]
    out, _ = ask("run", bundle, "The water", "--max-new-tokens", 12, *words)
    wanted = answer(
        bundle, "The water", max_new_tokens=12, temperature=1.3, top_k=40, top_p=0.95,
        min_p=0.01, repetition_penalty=1.2, seed=3, stop_strings=["zz", "q"],
    )  # fmt: skip
    assert out == wanted + "\n"
    greedy, _ = ask("run", bundle, "The water", "--max-new-tokens", 12, "--temperature", 0)
    assert greedy == answer(bundle, "The water", max_new_tokens=12) + "\n"


def test_json_is_one_object_with_why_it_ended(bundle: Path, ask: Ask) -> None:
    out, err = ask("run", bundle, "The water", "The", "--max-new-tokens", 4, "--json")
    found = json.loads(out)
    first = found["answers"][0]
    text = answer(bundle, "The water", max_new_tokens=4)
    assert first["output"] == [{"generated_text": text}]
    assert first["tokens"]["generated"] == 4
    assert first["ended"] == "length"
    assert len(found["answers"]) == 2
    assert err == ""


def test_wrong_options_are_said_at_once(bundle: Path, ask: Ask) -> None:
    out, err = ask("run", bundle, "x", "--max-new-tokens", 0, "--top-p", 3, code=2)
    assert out == ""
    assert "max_new_tokens is 0" in err
    assert "top_p is 3.0" in err
    _, err = ask("run", bundle, "word " * 300, code=2)
    assert "leaves no room for an answer in the model's context of 128" in err
    _, err = ask("run", bundle, "x" * 126)  # two tokens of room
    assert "context is full" in err


def test_what_cannot_be_answered_ends_in_a_sentence(bundle: Path, ask: Ask, tmp_path: Path) -> None:
    out, err = ask("run", bundle, "", code=2)
    assert out == ""
    assert err == "edgetfm: the prompt is empty, and the model has no token to start with\n"
    _, err = ask("run", bundle, "x", "--pictures", tmp_path, code=2)
    assert "--pictures is for" in err
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    (broken / "chat_template.jinja").write_text("{{ 'a' * 10**10 }}")
    admitted(broken, "chat_template.jinja")
    out, err = ask("run", broken, "Hi", "--chat", code=2)
    assert out == ""
    assert err.count("\n") == 1
    assert "chat template of this model is broken" in err


def admitted(bundle: Path, name: str) -> None:
    """Let the manifest say what a file of the bundle now holds."""
    manifest = json.loads((bundle / "edgetfm.json").read_text())
    data = (bundle / name).read_bytes()
    manifest["files"][name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (bundle / "edgetfm.json").write_text(json.dumps(manifest))


def test_a_stop_string_across_tokens_ends_the_answer_before_it(bundle: Path, ask: Ask) -> None:
    pieces = [*pipeline(bundle).stream("The water", max_new_tokens=20)]
    whole = "".join(pieces)
    end = len(pieces[0]) + len(pieces[1])
    stop = whole[end - 1 : end + 1]  # the last character of one token, the first of the next
    out, _ = ask("run", bundle, "The water", "--max-new-tokens", 20, "--stop", stop, "--json")
    (found,) = json.loads(out)["answers"]
    assert found["ended"] == "stop string"
    assert found["output"] == [{"generated_text": whole[: whole.index(stop)]}]
    out, _ = ask("run", bundle, "The water", "--max-new-tokens", 20, "--stop", stop)
    assert out == whole[: whole.index(stop)] + "\n"


def test_guesses_that_may_tip_a_choice_are_noted_once(
    bundle: Path, ask: Ask, tmp_path: Path
) -> None:
    """Of a variant that rounds its activations: the same graph under int4's name will do."""
    words = ["--lookup", 4, "--max-new-tokens", 4]
    _, err = ask("run", bundle, "The water", "The", *words)
    assert err == ""
    rounded = tmp_path / "rounded"
    shutil.copytree(bundle, rounded)
    text = (rounded / "edgetfm.json").read_text()
    (rounded / "edgetfm.json").write_text(text.replace('"fp32"', '"int4"'))
    out, err = ask("run", rounded, "The water", "The", *words)
    assert out.count("\n") == 2
    assert err.count("note: guesses are checked by kernels that round differently") == 1
    assert "int4" in err
    _, err = ask("chat", rounded, *words, typed="Hi\nGo on\n")
    assert err.count("note: guesses") == 1


def test_options_of_generation_are_refused_elsewhere() -> None:
    _generation.refuse({"temperature": None, "stop_strings": (), "chat": False}, "fill-mask")
    with pytest.raises(InputError, match="--temperature, --chat are for text-generation"):
        _generation.refuse({"temperature": 0.0, "chat": True, "threads": 2}, "fill-mask")


# --- chat ---------------------------------------------------------------------------------------


def test_chat_answers_each_line_and_remembers(bundle: Path, ask: Ask) -> None:
    words = ["chat", bundle, "--system", "Be brief.", "--max-new-tokens", 6]
    out, _ = ask(*words, "--json", typed="Hi\n\nAnd then?\n")
    messages = json.loads(out)["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert messages[2]["content"] == answer(bundle, messages[:2], max_new_tokens=6)
    assert messages[4]["content"] == answer(bundle, messages[:4], max_new_tokens=6)
    out, _ = ask(*words, typed="Hi\n\nAnd then?\n")
    assert out == f"{messages[2]['content']}\n{messages[4]['content']}\n"


def interrupts(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Press Ctrl-C when the second piece of the first answer is printed."""
    original, seen = Output.piece, []

    def pressed(self: Output, text: str) -> None:
        original(self, text)
        seen.append(text)
        if len(seen) == 2:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Output, "piece", pressed)
    # A shell's background job ignores the signal, and so would what it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_an_interrupt_stops_the_answer_and_not_the_chat(
    bundle: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupts(monkeypatch, 1)
    words = ["chat", bundle, "--max-new-tokens", 40, "--json"]
    messages = json.loads(ask(*words, typed="Hi\nGo on\n")[0])["messages"]
    whole = answer(bundle, messages[:1], max_new_tokens=40)
    assert whole.startswith(messages[1]["content"])
    assert len(messages[1]["content"]) < len(whole)
    assert messages[3]["content"] == answer(bundle, messages[:3], max_new_tokens=40)


@pytest.mark.parametrize("verb", ["chat", "run"])
def test_an_interrupt_ends_run_and_two_end_a_chat(
    bundle: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    interrupts(monkeypatch, 2 if verb == "chat" else 1)
    words = [verb, bundle, *(["-"] if verb == "run" else []), "--max-new-tokens", 40]
    out, err = ask(*words, typed="Hi\nGo on\n", code=130)
    assert out.count("\n") - out[:-1].count("\n") == 1  # its last line is ended
    assert "interrupted" in err


def test_chat_needs_a_bundle_that_generates(ask: Ask, tmp_path: Path) -> None:
    _, err = ask("chat", tmp_path, code=2)
    assert "no bundle" in err


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_chat_on_a_terminal_goes_on_until_control_d(bundle: Path) -> None:
    lead, follow = pty.openpty()
    words = [sys.executable, "-m", "edgetfm", "chat", str(bundle), "--max-new-tokens", "4"]
    with subprocess.Popen(words, stdin=follow, stdout=follow, stderr=follow) as process:
        os.close(follow)
        shown = read_until(lead, b"> ")
        assert b"Ctrl-D ends" in shown
        os.write(lead, b"Hj\x7fi\n")  # the wrong letter is taken back
        shown = read_until(lead, b"\n> ")
        wanted = answer(bundle, [{"role": "user", "content": "Hi"}], max_new_tokens=4)
        assert wanted.encode() in shown.replace(b"\r\n", b"\n")
        os.write(lead, b"\x04")
        assert process.wait(30) == 0
    os.close(lead)


def read_until(terminal: int, end: bytes) -> bytes:
    seen, start = b"", time.monotonic()
    while not seen.replace(b"\r", b"").endswith(end):
        assert time.monotonic() - start < 60, seen
        seen += os.read(terminal, 1024)
    return seen
