"""A ViT that reads digits, on every device: in the form that each of them takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgetfm.bundle import open_bundle
from edgetfm.errors import DeviceError
from edgetfm.manifest import NPU
from edgetfm.runtime.session import make_session
from edgetfm.vectors import read_vectors
from edgetfm.workflow.export import export_model
from edgetfm.workflow.made import ExportResult
from edgetfm.workflow.npu import BINARY, CONTEXT, STATIC
from edgetfm.workflow.quantize import quantize_bundle
from edgetfm.workflow.verify import verify_bundle, write_report
from tests.devices.rows import EMULATED, INT8, ready

pytestmark = pytest.mark.devices


@pytest.fixture(scope="module")
def int8(digits_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Int8 that no CPU saturates, and the float32 it was made of."""
    made = tmp_path_factory.mktemp("vit") / "int8"
    return export_model(
        digits_checkpoint, made, quantize="int8", target="x86-avx2", keep_fp32=True
    ).path


@pytest.fixture(scope="module")
def for_npu(digits_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """Activations in 16 bits whose ranges are fixed, as the NPU takes them."""
    made = tmp_path_factory.mktemp("vit") / "a16w8"
    return export_model(digits_checkpoint, made, quantize="a16w8", target="htp")


def test_int8_and_float_answer_alike_on_every_cpu(int8: Path, tmp_path: Path) -> None:
    devices = ready(*INT8)
    ledger = verify_bundle(int8, device=devices)
    assert ledger.passed, ledger.failures
    for precision in ("fp32", "int8"):
        assert [d["device"] for d in ledger.devices if d["precision"] == precision] == list(INT8)
    assert {d["device"] for d in ledger.devices if d["load_ms"] is None} == {"cpu", *EMULATED}
    assert {d["device"] for d in ledger.devices if d["latency_ms"] is None} == {*EMULATED}
    write_report(int8, ledger, tmp_path / "devices.html")
    page = (tmp_path / "devices.html").read_text()
    assert page.count(">emulated<") == 2 * len(EMULATED) + 1  # the rows, and what the word means


def test_webgpu_takes_the_floats_and_names_what_it_leaves_of_int8(int8: Path) -> None:
    ledger = verify_bundle(int8, device=ready("web-webgpu", "cpu"))
    floats, ints = (d for d in ledger.devices if d["device"] == "web-webgpu")
    assert floats["error"] is None
    assert max(floats["placement"], key=floats["placement"].get) == "WebGpuExecutionProvider"
    assert {rung.name for rung in ledger.rungs} >= {"fp32 on web-webgpu", "int8 on cpu"}
    assert all(rung.passed for rung in ledger.rungs)
    assert "fell back to the CPU: 17 DynamicQuantizeLinear, 17 MatMulInteger" in ints["error"]
    assert not ledger.passed
    assert verify_bundle(int8, device="web-webgpu", allow_fallback=True).passed


@pytest.mark.parametrize("device", ["htp", "htp:68", "htp:73", "htp:79"])
def test_a16w8_is_the_npus_alone(for_npu: ExportResult, device: str) -> None:
    ledger = verify_bundle(for_npu.path, device=ready(device))
    assert ledger.passed, ledger.failures
    (said,) = ledger.devices
    assert list(said["placement"]) == ["QNN"]
    assert (said["proves"], said["load_ms"]) == ("emulated", None)


def test_the_npu_gets_one_row_of_fixed_sizes_and_what_its_compiler_makes(
    for_npu: ExportResult,
) -> None:
    ready("htp")
    bundle = open_bundle(for_npu.path)  # which checks the hashes
    assert {n for n in bundle.manifest.files if n.startswith(NPU)} == {STATIC, CONTEXT, BINARY}
    (rung,) = (r for r in for_npu.ledger.rungs if r.name == "a16w8 compiled for htp")
    assert rung.passed
    assert rung.measures["logits"].cosine > 0.9999
    (same,) = (r for r in for_npu.ledger.rungs if r.name == "a16w8 of fixed sizes")
    assert (same.against, same.passed) == ("a16w8", True)
    fixed = make_session(bundle.path(STATIC))
    assert fixed.signature.axes == ()
    case = {"pixel_values": read_vectors(bundle).cases[-1]["pixel_values"][:1]}
    free = make_session(bundle.path(bundle.manifest.components["model"].variants["a16w8"].file))
    np.testing.assert_allclose(fixed.run(case)["logits"], free.run(case)["logits"], atol=1e-5)


def test_without_the_simulator_the_compiled_form_is_left_out_and_said(
    int8: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    made = quantize_bundle(int8, tmp_path / "made", quantize="a16w8", target="htp", keep_fp32=True)
    assert {n for n in open_bundle(made.path).manifest.files if n.startswith(NPU)} == {STATIC}
    assert any("edgetfm doctor --install htp" in note for note in made.notes)
    again = quantize_bundle(made.path, tmp_path / "again", quantize="int8", keep_fp32=True)
    assert not [n for n in open_bundle(again.path).manifest.files if n.startswith(NPU)]


def test_the_npu_says_what_it_wants_instead_of_int8(int8: Path) -> None:
    ready("htp")
    with pytest.raises(DeviceError, match=r"htp refuses int8.*--target htp"):
        verify_bundle(int8, device="htp")


def test_providers_of_phones_say_what_they_would_take(
    int8: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a bundle that is named from where we are; nothing is run, so nothing is proven."""
    monkeypatch.chdir(int8.parent)
    ledger = verify_bundle(int8.name, device=ready("nnapi", "coreml-static"))
    said = {(d["device"], d["precision"]): d for d in ledger.devices}
    assert not ledger.rungs
    assert {d["proves"] for d in ledger.devices} == {"static"}
    assert "LayerNormalization" in said["nnapi", "fp32"]["would_refuse"]
    assert "17 MatMulInteger" in said["coreml-static", "int8"]["would_refuse"]
    assert said["coreml-static", "fp32"]["placement"]["CoreMLExecutionProvider"] > 100
    assert "export it with --target nnapi" in said["nnapi", "int8"]["error"]
