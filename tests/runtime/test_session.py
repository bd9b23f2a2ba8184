"""A session says where it runs, refuses what it cannot trust, and keeps to what was asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgetfm.errors import BundleError, DeviceError, InputError
from edgetfm.runtime import devices, session
from edgetfm.runtime.devices import DEVICES, Device
from edgetfm.runtime.placement import FirstCall
from edgetfm.runtime.session import make_session


def save_sum(path: Path, *, location: str | None = None) -> Path:
    """A graph y = x + w, with the weights in a file at `location` if one is given."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], np.arange(4, dtype=np.float32))
    if location is not None:
        weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
        weight.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", "16")):
            weight.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


X = {"x": np.zeros((1, 4), np.float32)}


def test_external_data_beside_the_graph_is_read(tmp_path: Path) -> None:
    graph = save_sum(tmp_path / "onnx" / "model.onnx", location="model.onnx_data")
    (graph.parent / "model.onnx_data").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    assert make_session(graph).run(X)["y"].tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("kind", ["parent", "hidden parent", "absolute", "link", "missing"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, kind: str) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    folder = tmp_path / "bundle" / "onnx"
    (folder / "sub").mkdir(parents=True)
    (folder / "link.bin").symlink_to(secret)
    location = {
        "parent": "../../secret.bin",
        "hidden parent": "sub/../../../secret.bin",
        "absolute": str(secret),
        "link": "link.bin",
        "missing": "nowhere.bin",
    }[kind]
    graph = save_sum(folder / "model.onnx", location=location)
    with pytest.raises(BundleError, match="External data path"):
        make_session(graph)


def test_every_node_is_placed(tiny_bundle: Callable[..., Any]) -> None:
    graph = tiny_bundle("bert", "text-classification").bundle / "onnx" / "model.onnx"
    plain = make_session(graph, optimize=False)
    assert plain.placement == {"CPUExecutionProvider": len(onnx.load(graph).graph.node)}
    assert plain.providers == ("CPUExecutionProvider",)
    assert plain.fallen_back == {}


def test_an_unoptimized_session_keeps_the_nodes_and_the_answer(
    tiny_bundle: Callable[..., Any],
) -> None:
    graph = tiny_bundle("bert", "text-classification").bundle / "onnx" / "model.onnx"
    feeds = {
        "input_ids": np.arange(12).reshape(2, 6) + 5,
        "attention_mask": np.ones((2, 6), np.int64),
        "token_type_ids": np.zeros((2, 6), np.int64),
    }
    plain, optimized = make_session(graph, optimize=False), make_session(graph)
    assert sum(optimized.placement.values()) <= sum(plain.placement.values())
    np.testing.assert_allclose(
        plain.run(feeds)["logits"], optimized.run(feeds)["logits"], atol=1e-5, rtol=0
    )


def test_disabled_optimizers_are_not_applied(
    tiny_bundle: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = tiny_bundle("bert", "text-classification").bundle / "onnx" / "model.onnx"
    fusion, made = "MatmulTransposeFusion", session._options
    ops = {}
    for name, settings in (
        ("all", {}),
        ("less", {"disabled_optimizers": [fusion]}),
        ("entry", {"config_entries": {"optimization.disable_specified_optimizers": fusion}}),
    ):

        def options(*given: Any, to: Path = tmp_path / f"{name}.onnx") -> Any:
            result = made(*given)
            result.optimized_model_filepath = str(to)
            return result

        monkeypatch.setattr(session, "_options", options)
        make_session(graph, settings=settings)
        ops[name] = {n.op_type for n in onnx.load(tmp_path / f"{name}.onnx").graph.node}
    assert "FusedMatMul" in ops["all"]
    assert "FusedMatMul" not in ops["less"] | ops["entry"]


def test_settings_of_a_manifest_are_checked_all_at_once(tmp_path: Path) -> None:
    graph = save_sum(tmp_path / "model.onnx")
    settings = {
        "providers": ["X"],
        "disabled_optimizers": "ConstantFolding",
        "config_entries": {
            "session.model_external_initializers_file_folder_path": "/",
            "session.set_denormal_as_zero": 1,
        },
    }
    with pytest.raises(BundleError) as raised:
        make_session(graph, settings=settings)
    for part in ("providers", "disabled_optimizers", "folder_path", "set_denormal_as_zero"):
        assert part in str(raised.value)
    with pytest.raises(BundleError, match="config_entries is 5"):
        session.without_spinning({"config_entries": 5})


def test_a_damaged_graph_is_a_bundle_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not protobuf")
    with pytest.raises(BundleError, match=r"cannot load .*model\.onnx: "):
        make_session(tmp_path / "model.onnx")


def test_bad_arguments_are_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no graph at"):
        make_session(tmp_path / "absent.onnx")
    with pytest.raises(InputError, match=r"'.*\\udcff.*' is not UTF-8"):
        make_session(tmp_path / "\udcff.onnx")
    graph = save_sum(tmp_path / "model.onnx")
    with pytest.raises(InputError, match="threads is 0"):
        make_session(graph, threads=0)
    with pytest.raises(DeviceError, match="unknown device 'tpu'; known are cpu, cuda"):
        make_session(graph, device="tpu")


def test_what_the_graph_cannot_compute_is_an_input_error(tmp_path: Path) -> None:
    loaded = make_session(save_sum(tmp_path / "model.onnx"))
    with pytest.raises(InputError, match=r"cannot run model.onnx on x \(1, 5\)"):
        loaded.run({"x": np.zeros((1, 5), np.float32)})


def test_outputs_can_be_chosen(tmp_path: Path) -> None:
    loaded = make_session(save_sum(tmp_path / "model.onnx"))
    assert list(loaded.run(X, ["y"])) == ["y"]
    with pytest.raises(InputError):
        loaded.run(X, ["z"])


@pytest.mark.skipif(DEVICES["cuda"].missing() is None, reason="there is a GPU")
def test_a_missing_gpu_is_a_device_error_that_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"needs .*(edgetfm\[gpu\]|driver|GPU)") as raised:
        make_session(save_sum(tmp_path / "model.onnx"), device="cuda")
    assert raised.value.exit_code == 4


@pytest.fixture
def other_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device whose provider is there and takes no node: everything falls back to the CPU."""
    row = Device("other", "AzureExecutionProvider", "other", missing=lambda: None)
    monkeypatch.setitem(devices.DEVICES, "other", row)


@pytest.mark.usefixtures("other_device")
def test_a_fallback_is_an_error_unless_allowed(tmp_path: Path) -> None:
    graph = save_sum(tmp_path / "model.onnx")
    with pytest.raises(DeviceError, match=r"fell back to the CPU: 1 Add") as raised:
        make_session(graph, device="other")
    assert raised.value.exit_code == 4
    allowed = make_session(graph, device="other", allow_fallback=True)
    assert allowed.placement == {"CPUExecutionProvider": 1}
    assert allowed.fallen_back == {"Add": 1}


def test_the_first_call_tells_what_only_looked_like_arithmetic_of_shapes(tmp_path: Path) -> None:
    """A real session's call, judged as if its CPU were not the device that was asked for."""
    graph = save_sum(tmp_path / "model.onnx")
    for allowed in (True, False):
        first = FirstCall(allowed=allowed)
        loaded = make_session(graph, profile_to=first.folder)
        loaded = replace(loaded, fallen_back={}, _first_call=first)
        for _ in range(2):
            if allowed:
                loaded.run(X)
            else:
                with pytest.raises(DeviceError, match=r"fell back to the CPU: 1 Add"):
                    loaded.run(X)
        assert loaded.fallen_back == {"Add": 1}
        assert not first.folder.exists()


def test_a_first_call_that_nothing_is_known_of_is_no_call_without_fallback(tmp_path: Path) -> None:
    first = FirstCall(allowed=False)
    session = make_session(save_sum(tmp_path / "model.onnx"), profile_to=first.folder)
    session = replace(session, fallen_back={}, _first_call=first)
    session.end_profiling().unlink()
    for _ in range(2):
        with pytest.raises(DeviceError, match="nothing is known of what fell back"):
            session.run(X)


@pytest.mark.gpu
@pytest.mark.skipif(DEVICES["cuda"].missing() is not None, reason="no GPU, or no runtime for it")
def test_cuda_answers_as_the_cpu_does(tiny_bundle: Callable[..., Any]) -> None:
    graph = tiny_bundle("bert", "text-classification").bundle / "onnx" / "model.onnx"
    feeds = {
        "input_ids": np.arange(12).reshape(2, 6) + 5,
        "attention_mask": np.ones((2, 6), np.int64),
        "token_type_ids": np.zeros((2, 6), np.int64),
    }
    gpu = make_session(graph, device="cuda")
    assert gpu.providers[0] == "CUDAExecutionProvider"
    np.testing.assert_allclose(
        gpu.run(feeds)["logits"], make_session(graph).run(feeds)["logits"], atol=1e-4, rtol=0
    )


def test_importing_the_runtime_is_light_and_telemetry_is_off() -> None:
    code = (
        "import os, sys, edgetfm.runtime\n"
        "heavy = {'tokenizers', 'PIL', 'onnx', 'onnx_ir', 'torch', 'transformers', 'onnxruntime'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "from edgetfm.runtime._ort import ort\n"
        "ort()\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
        "assert heavy & set(sys.modules) == {'onnxruntime'}\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
