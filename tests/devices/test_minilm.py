"""A real sentence encoder, on every device: in the form that each of them takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetfm.errors import DeviceError
from edgetfm.workflow.export import export_model
from edgetfm.workflow.verify import verify_bundle
from tests.devices.rows import INT8, ready

pytestmark = pytest.mark.devices


@pytest.fixture(scope="module")
def int8(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Int8 that no CPU saturates."""
    made = tmp_path_factory.mktemp("minilm") / "int8"
    return export_model(minilm_folder, made, quantize="int8", target="x86-avx2").path


def test_int8_answers_alike_everywhere(int8: Path) -> None:
    ledger = verify_bundle(int8, device=ready(*INT8))
    assert ledger.passed, ledger.failures
    assert [said["device"] for said in ledger.devices] == list(INT8)


def test_webgpu_is_right_where_the_cpu_may_help(int8: Path) -> None:
    devices = ready("web-webgpu")
    with pytest.raises(DeviceError, match="24 DynamicQuantizeLinear, 1 Gather, 24 MatMulInteger"):
        verify_bundle(int8, device=devices)
    ledger = verify_bundle(int8, device=devices, allow_fallback=True)
    assert ledger.passed, ledger.failures
    assert set(ledger.devices[0]["placement"]) >= {"WebGpuExecutionProvider"}
