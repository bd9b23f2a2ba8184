"""`--quantize` with a value, without one, and right before an argument."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from edgetfm.cli.export import command


def parsed(*words: str) -> tuple[str | None, str]:
    with command.make_context("export", list(words)) as context:
        assert context.params["output"] == Path("out")
        return context.params["quantize"], context.params["source"]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["model", "-o", "out"], None),
        (["model", "--quantize", "-o", "out"], "auto"),
        (["model", "-o", "out", "--quantize"], "auto"),
        (["model", "--quantize", "int8", "-o", "out"], "int8"),
        (["model", "--quantize=fp16", "-o", "out"], "fp16"),
        (["--quantize", "model", "-o", "out"], "auto"),
        (["--quantize", "int8", "model", "-o", "out"], "int8"),
        (["--quantize", "none", "model", "-o", "out"], "none"),
        (["-o", "out", "--quantize", "--", "model"], "auto"),
    ],
)
def test_the_value_is_optional(words: list[str], wanted: str | None) -> None:
    assert parsed(*words) == (wanted, "model")


def test_a_model_called_like_a_precision_is_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "q4").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parsed("--quantize", "q4", "-o", "out") == ("auto", "q4")


@pytest.mark.parametrize("word", ["int3", "q4", "FP8", "uint8", "float16"])
def test_an_unknown_precision_is_refused_by_name(word: str) -> None:
    with pytest.raises(click.BadParameter, match=f"'{word}' is not one of 'auto', 'int8'"):
        parsed("--quantize", word, "model", "-o", "out")
