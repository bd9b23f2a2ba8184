from __future__ import annotations

import platform
from typing import get_args

import pytest

from edgetfm.errors import InputError
from edgetfm.quantize import targets
from edgetfm.quantize.recipes import Precision
from edgetfm.quantize.targets import TARGETS, objections, parse_targets, this_machine


def test_targets_are_read_in_the_order_given() -> None:
    found = parse_targets(" x86-avx2, arm64 ,x86-avx2")
    assert [target.name for target in found] == ["x86-avx2", "arm64"]
    assert [target.saturates for target in found] == [True, False]


def test_every_unknown_target_is_named_and_every_known_one_listed() -> None:
    with pytest.raises(InputError) as caught:
        parse_targets("x86,arm64,tpu")
    message = str(caught.value)
    assert "unknown target 'x86'" in message
    assert "unknown target 'tpu'" in message
    assert all(f"  {name} " in message for name in TARGETS)
    assert "'arm64'" not in message
    with pytest.raises(InputError, match="no target is named"):
        parse_targets(" , ")


def test_a_target_likes_nothing_that_it_refuses() -> None:
    for name, target in TARGETS.items():
        assert target.name == name
        assert target.likes
        assert not set(target.likes) & set(target.refuses)
        assert {*target.likes, *target.refuses} <= set(get_args(Precision))


def test_each_refusal_says_who_and_why() -> None:
    said = objections("int8", parse_targets("x86-vnni,cuda,htp"))
    assert [line.split(":")[0] for line in said] == ["cuda refuses int8", "htp refuses int8"]
    assert all(len(line.split(": ")[1]) > 10 for line in said)


@pytest.mark.parametrize(
    ("architecture", "features", "name"),
    [
        ("x86_64", ["avx2", "avx512f", "avx512_vnni"], "x86-vnni"),
        ("x86_64", ["avx2", "avx_vnni"], "x86-vnni"),
        ("x86_64", ["avx2", "avx512f"], "x86-avx2"),
        ("AMD64", ["sse4_1"], "x86-sse"),
        ("aarch64", ["neon"], "arm64"),
        ("arm64", None, "arm64"),
        ("x86_64", None, None),
        ("riscv64", [], None),
    ],
)
def test_a_machine_is_known_by_its_features(
    monkeypatch: pytest.MonkeyPatch, architecture: str, features: list[str] | None, name: str | None
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: architecture)
    monkeypatch.setattr(targets, "cpu_features", lambda: features)
    assert this_machine() == name
    assert name is None or name in TARGETS
