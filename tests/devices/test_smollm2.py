"""SmolLM2 in 4 bits, on every device that takes it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgetfm.quantize.recipes import RECIPES
from edgetfm.workflow.export import export_model
from edgetfm.workflow.verify import verify_bundle
from tests.devices.rows import INT4, ready

pytestmark = pytest.mark.devices


@pytest.fixture(scope="module")
def int4(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rounded to nearest, which takes a minute where compensation takes five: it answers worse,
    and what is asked here is whether it answers the same."""
    folder = tmp_path_factory.mktemp("smollm2")
    recipe = replace(
        RECIPES["int4"], rounding="nearest", block_size=32, symmetric=False, table_bits=4
    )
    (folder / "nearest.json").write_text(json.dumps(recipe.to_json()))
    made = export_model(
        smollm2_folder,
        folder / "int4",
        recipe=folder / "nearest.json",
        max_drop="perplexity:0.5,kl:0.5",
    )
    return made.path


def test_int4_answers_alike_wherever_it_is_taken(int4: Path) -> None:
    ledger = verify_bundle(int4, device=ready(*INT4))
    assert ledger.passed, ledger.failures
    own = [rung for rung in ledger.rungs if rung.against == "the exporting CPU"]
    assert [rung.name for rung in own] == [f"int4 on {name}" for name in INT4]
    assert all(m.cosine > 0.999 for rung in own for m in rung.measures.values())


def test_those_that_do_not_take_it_name_what_they_lack(int4: Path) -> None:
    ledger = verify_bundle(int4, device=ready("openvino", "htp"))
    errors = {said["device"]: said["error"] for said in ledger.devices}
    assert "fell back to the CPU: " in errors["openvino"]
    assert "30 GroupQueryAttention" in errors["openvino"]
    assert "htp refuses int4" in errors["htp"]
    assert not ledger.rungs
