"""What commands print fits a terminal of 100 columns, and can be read on one of 80."""

from __future__ import annotations

import re
from typing import Any

import pytest

from edgetfm.cli._table import facts_text, table, width
from edgetfm.cli._tensors import tensors_text
from edgetfm.cli._text import checks_text, ledger_text, tried_text
from edgetfm.ledger import Ledger, Rung
from edgetfm.parity import Measures

DEVICE = "cosine:0.999,worst_cosine:0.995,max_error:0.05"


def plain(text: str) -> list[str]:
    return [re.sub(r"\x1b\[[\d;]*m", "", line) for line in text.splitlines()]


def both(cosine: float, agreement: float | None = None) -> dict[str, Measures]:
    measured = Measures(40, 0.1, 0.01, 0.1, cosine, cosine, agreement)
    return {"last_hidden_state": measured, "sentence_embedding": measured}


def ledger(**missed: Any) -> Ledger:
    rungs = [
        Rung("fp32 graph", "PyTorch", both(0.99999994), "max_error:1e-5"),
        Rung("fp32 alone", "fp32 in a padded batch", both(1.0), "max_error:1e-5"),
        Rung(
            "int8-static optimized", "int8-static graph", both(0.99999994, 0.995), DEVICE, **missed
        ),
        Rung(
            "int8 accuracy",
            "fp32",
            {},
            "1%",
            metric={"name": "accuracy", "value": 0.912, "reference": 0.92, "items": 200},
        ),
    ]
    return Ledger(rungs)


TRIED: list[dict[str, Any]] = [
    {
        "name": name,
        "precision": "int8",
        "bytes": 23_600_000,
        "latency": 0.39,
        "spread": 0.011,
        "use": 0.5,
        "measures": {"logits": both(0.9989, 0.995)["last_hidden_state"].to_json()},
        "metric": {"name": "accuracy", "value": 0.912, "reference": 0.92},
        "inside": True,
        "missed": ["x" * 90],
        "note": "the most sensitive nodes in float32",
    }
    for name in ("int8", "int8, 4 nodes in blocks", "int8, 12 nodes in float")
]


@pytest.fixture(params=[80, 100, 200])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    return min(100, int(request.param))


def test_the_ledger_fits(columns: int) -> None:
    lines = plain(ledger_text(ledger()))
    assert max(map(len, lines)) <= columns
    assert max(map(len, lines)) > columns - 25  # and uses what there is


def test_the_variants_fit(columns: int) -> None:
    assert max(map(len, plain(tried_text(TRIED)))) <= columns


def test_what_the_doctor_finds_fits(columns: int) -> None:
    checks = [
        {"name": "python", "ok": True, "found": "3.11.7", "do": None},
        {"name": "device of a long name", "ok": False, "found": "n/a", "do": "install it " * 30},
    ]
    ready, *lacking = plain(checks_text(checks))
    assert max(map(len, lacking)) <= columns
    assert ready.index("3.11.7") == lacking[0].index("n/a") == lacking[1].index("install")


def test_facts_fit_and_keep_names_whole(columns: int) -> None:
    path = "/a/long/path/" * 12
    shown = plain(facts_text({"where": path, "inside": {"what": "many words " * 30}}))
    assert any(path in line for line in shown)
    assert max(len(line) for line in shown if path not in line) <= columns


def test_what_many_layers_keep_is_said_once() -> None:
    def tensor(name: str, heads: int = 2) -> dict[str, Any]:
        return {"name": name, "dtype": "float32", "shape": ["batch", heads]}

    kept = [tensor(f"past.{n}.{what}") for n in range(3) for what in ("key", "value")]
    assert tensors_text([tensor("logits"), *kept, tensor("past.3.key", heads=1)]) == (
        "logits float32[batch, 2], past.0-2.key float32[batch, 2], "
        "past.0-2.value float32[batch, 2], past.3.key float32[batch, 1]"
    )
    assert tensors_text([tensor("a.1.x"), tensor("a.4.x")]) == "a.1,4.x float32[batch, 2]"


def test_no_word_of_a_ledger_is_lost_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = "".join("".join(plain(ledger_text(ledger()))).split())
    for rung in ledger().rungs:
        for word in (rung.name, rung.against):
            assert all(part in shown for part in word.split())
    assert "0.9999999" in shown
    assert "last_hidden_state" in shown
    assert "0.912" in shown


def test_each_bound_is_said_once_with_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = plain(ledger_text(ledger()))
    (line,) = [line for line in lines if "max_error:1e-5" in line]
    assert line.split("  ")[-1].strip() == "fp32 graph, fp32 alone"
    assert lines[-1] == "every bound holds"


def test_a_missed_bound_is_red_on_every_line_of_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    missed = ("last_hidden_state: cosine 0.98 < 0.999",)
    lines = ledger_text(ledger(missed=missed)).splitlines()
    (first,) = [n for n, line in enumerate(lines) if "FAIL" in line]
    assert all(line.startswith("\x1b[31m") for line in lines[first : first + 2])
    assert "1 bounds are missed" in lines[-1]


def test_empty_columns_are_left_out() -> None:
    assert plain(table(["a", "b", "c"], [["1", "", "3"]])) == ["a  c", "1  3"]


def test_a_spare_column_gives_way_before_words_break() -> None:
    headers, rows = ["name", "spare", "last"], [["a" * 10, "b" * 10, "c" * 10]]
    assert (
        plain(table(headers, rows, within=34, spare=("spare",)))[0]
        == "name        spare       last"
    )
    assert plain(table(headers, rows, within=30, spare=("spare",)))[0] == "name        last"


def test_a_table_that_cannot_fit_is_as_narrow_as_can_be() -> None:
    lines = plain(table(["a", "b"], [["word " * 20, "x" * 30]], within=20))
    assert max(map(len, lines)) <= 20


def test_without_a_terminal_there_are_100_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert width() <= 100
    monkeypatch.setenv("COLUMNS", "20")
    assert width() == 60
