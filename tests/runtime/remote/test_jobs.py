"""A job goes out in a folder and comes back answered, by the runner that any machine can start."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper

from edgetfm.bundle import open_bundle
from edgetfm.errors import DeviceError
from edgetfm.runtime.bench import bench
from edgetfm.runtime.devices import DEVICES, Device, device_named
from edgetfm.runtime.remote import emulated, runner
from edgetfm.runtime.remote.job import Result, read_arrays, write_arrays
from edgetfm.runtime.remote.replay import replay, worth_asking
from edgetfm.runtime.session import make_session
from edgetfm.signature import DTYPES
from edgetfm.workflow.bench import bench_bundle
from tests.phones import attach_phone

ARRAYS = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1),
    hnp.arrays(st.sampled_from(DTYPES), hnp.array_shapes(min_dims=0, min_side=0, max_side=4)),
    max_size=4,
)


@given(first=ARRAYS, second=ARRAYS)
def test_arrays_survive_the_way_there_and_back(
    tmp_path_factory: pytest.TempPathFactory, first: Any, second: Any
) -> None:
    file = tmp_path_factory.mktemp("arrays") / "cases.bin"
    with file.open("wb") as stream:
        said = json.loads(json.dumps([write_arrays(stream, a) for a in (first, second)]))
    held = file.read_bytes()
    for arrays, where in zip((first, second), said, strict=True):
        assert all(what["offset"] % 64 == 0 for what in where.values())
        for read in (read_arrays(memoryview(held), where), runner.read(held, where)):
            assert set(read) == set(arrays)
            for name, array in arrays.items():
                assert read[name].dtype == array.dtype
                np.testing.assert_array_equal(read[name], array)


@pytest.fixture(scope="module")
def texts_bundle(tiny_bundle: Callable[..., Any]) -> Path:
    bundle: Path = tiny_bundle("bert", "feature-extraction").bundle
    return bundle


def cases() -> list[dict[str, Any]]:
    """One row, and three that are padded."""
    made = []
    for rows, tokens in ((1, 5), (3, 7)):
        mask = (np.arange(tokens) < np.arange(tokens, tokens - rows, -1)[:, None]).astype(np.int64)
        ids = np.random.default_rng(rows).integers(5, 30, (rows, tokens)) * mask
        made.append({"input_ids": ids, "attention_mask": mask, "token_type_ids": ids * 0})
    return made


def near(**changes: Any) -> Device:
    """The runner called in this process, as a device."""
    return replace(DEVICES["arm64"], name="near", answer=runner.main, **changes)


def asked(bundle: Path, device: Device, feeds: list[Any], **options: Any) -> Result:
    opened = open_bundle(bundle)
    signatures = {name: c.signature for name, c in opened.manifest.components.items()}
    names = {t.name for t in opened.manifest.signature.inputs}
    feeds = [{n: a for n, a in case.items() if n in names} for case in feeds]
    return replay(opened.graph(), signatures, feeds, device, **options)


def here(bundle: Path, feeds: list[Any]) -> list[Any]:
    session = make_session(open_bundle(bundle).graph())  # type: ignore[arg-type]
    names = {t.name for t in session.signature.inputs}
    return [session.run({n: a for n, a in case.items() if n in names}) for case in feeds]


def test_the_runner_answers_as_a_session_does(texts_bundle: Path) -> None:
    result = asked(texts_bundle, near(), cases(), runs=2)
    for got, wanted in zip(result.answers, here(texts_bundle, cases()), strict=True):
        assert set(got) == set(wanted)
        for name, array in wanted.items():
            np.testing.assert_allclose(got[name], array, atol=1e-5)
    assert list(result.placement or ()) == ["CPUExecutionProvider"]
    assert len(result.times_ms) == 2
    assert min(result.load_ms, *result.times_ms) > 0


def test_rows_and_fixed_sizes_for_those_that_take_no_others(texts_bundle: Path) -> None:
    """Each row by itself, padded to one length, and put together again as it was asked."""
    result = asked(texts_bundle, near(rows=1, fixed=True), cases())
    for got, wanted, case in zip(result.answers, here(texts_bundle, cases()), cases(), strict=True):
        assert {n: a.shape for n, a in got.items()} == {n: a.shape for n, a in wanted.items()}
        real = case["attention_mask"].astype(bool)
        for name, array in wanted.items():
            ours, theirs = (a[real] if a.ndim == 3 else a for a in (got[name], array))
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_graph_of_two_rows_is_refused_by_what_takes_one(texts_bundle: Path) -> None:
    opened = open_bundle(texts_bundle)
    signature = opened.manifest.signature
    fixed = tuple(replace(t, shape=(2, *t.shape[1:])) for t in signature.inputs)
    signatures = {"model": replace(signature, inputs=fixed)}
    with pytest.raises(DeviceError, match=r"batches of 1 at most.*input_ids"):
        replay(opened.graph(), signatures, cases(), near(rows=1, fixed=True))


def test_a_graph_that_does_not_load_says_where_and_why(texts_bundle: Path, tmp_path: Path) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"no graph")
    signatures = {"model": open_bundle(texts_bundle).manifest.signature}
    with pytest.raises(DeviceError, match="near cannot load the graph"):
        replay(broken, signatures, cases(), near())


def test_nodes_that_fell_back_are_named(texts_bundle: Path) -> None:
    """A real provider that takes no node: everything falls back to the CPU."""
    device = near(provider="AzureExecutionProvider")
    with pytest.raises(DeviceError, match=r"fell back to the CPU: .*\d Add.*\d MatMul"):
        asked(texts_bundle, device, cases())
    assert asked(texts_bundle, device, cases(), allow_fallback=True).fallen_back["MatMul"] > 0


def test_arithmetic_of_shapes_is_the_cpus_by_what_it_gives(tmp_path: Path) -> None:
    """x times the number of its elements: that number is of the shape, also as a float."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("ReduceProd", ["shape"], ["count"], keepdims=1),
        helper.make_node("Cast", ["count"], ["scale"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "scale"], ["y"]),
        helper.make_node("Cast", ["x"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("Concat", ["bytes", "bytes"], ["twice"], axis=0),
        helper.make_node("Concat", ["shape", "count"], ["sizes"], axis=0),
    ]
    kinds = {"y": TensorProto.FLOAT, "twice": TensorProto.UINT8, "sizes": TensorProto.INT64}
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "m"])],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    for _ in range(2):
        session.run(None, {"x": np.ones((2, 3), np.float32)})
    assert runner.placed([session], "CPUExecutionProvider") == ({"CPUExecutionProvider": 7}, {})
    assert runner.not_of_shapes(runner.events(session)) == {"Mul": 1, "Cast": 1, "Concat": 1}
    assert not list(tmp_path.iterdir())
    with pytest.raises(runner.Failed, match="does not say where its nodes run"):
        runner.placed([], "QNNExecutionProvider")


def test_of_emulated_devices_few_cases_are_asked() -> None:
    many = [{"input_ids": np.zeros((rows, 64), np.int64)} for rows in (1, 2, 3, 4, 5)]
    assert worth_asking(DEVICES["arm64"], many) == 2
    assert worth_asking(DEVICES["openvino"], many) == 5
    growing = [{"input_ids": np.zeros((1, tokens), np.int64)} for tokens in (1, 2, 4, 60, 70)]
    assert worth_asking(DEVICES["arm64"], growing) == 5
    assert worth_asking(DEVICES["htp"], growing) == 4, "where sizes are fixed all are 60 long"


def test_a_device_elsewhere_is_timed_by_its_own_clock(
    texts_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def answer(folder: Path) -> None:
        told.append(json.loads((folder / "job.json").read_text())["provider"]["options"])
        runner.main(folder)

    ready = replace(
        near(proves="measured", missing=lambda: None, prepare=lambda: None),
        answer=answer,
        threads_option=DEVICES["openvino"].threads_option,
    )
    monkeypatch.setitem(DEVICES, "near", ready)
    found = bench_bundle(texts_bundle, device="near", sequence=8, runs=3)
    assert json.loads(json.dumps(found)) == found
    assert set(found) == set(bench(texts_bundle, sequence=8, runs=1, memory=False))
    assert 0 < found["latency_ms"]["min"] <= found["latency_ms"]["p95"]
    assert (found["device"], found["threads"], found["sequence"]) == ("near", 1, 8)
    assert told == [{"num_of_threads": "1"}], "what is said of threads is set"
    assert list(found["placement"]) == ["CPUExecutionProvider"]
    monkeypatch.setitem(DEVICES, "near", replace(ready, proves="emulated"))
    with pytest.raises(DeviceError, match="near is emulated: it has no times worth printing"):
        bench_bundle(texts_bundle, device="near")


def touched(count: int) -> mmap.mmap:
    """Anonymous memory, each byte written: an allocator could take it from what it has kept."""
    memory = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for start in range(0, count, mmap.PAGESIZE):
        memory[start] = 1
    return memory


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc/PID/status here")
def test_a_peak_is_what_was_anonymous_meanwhile_and_no_earlier_one(tmp_path: Path) -> None:
    """Neither files that are mapped nor what was held and given back before count."""
    (tmp_path / "file").write_bytes(bytes(30_000_000))
    touched(60_000_000).close()
    watch = runner.Watch(sees=True)
    with watch:
        assert not np.memmap(tmp_path / "file", np.uint8, "r").any()
        held = touched(20_000_000)
        time.sleep(0.05)
        held.close()
    assert watch.peak is not None
    assert 20_000_000 <= watch.peak < 28_000_000
    with (nothing := runner.Watch(sees=False)):
        pass
    assert nothing.peak is None


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `adb` whose phone is a folder of this machine."""
    return attach_phone(tmp_path, monkeypatch, sys.executable)


def test_a_phone_answers_over_adb_and_is_left_clean(texts_bundle: Path, phone: Path) -> None:
    for name in ("adb", "adb:PHONE"):
        device = device_named(name)
        assert device.missing() is None
        result = asked(texts_bundle, device, cases())
        for got, wanted in zip(result.answers, here(texts_bundle, cases()), strict=True):
            for output, array in wanted.items():
                np.testing.assert_allclose(got[output], array, atol=1e-5)
    assert not list((phone / "data" / "local" / "tmp" / "edgetfm").iterdir())


def test_a_phone_that_cannot_be_used_says_why(phone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the phone OTHER (attached: PHONE)" in str(device_named("adb:OTHER").missing())
    monkeypatch.setenv("EDGETFM_ADB_PYTHON", "/usr/bin/false")
    said = str(device_named("adb").missing())
    assert "numpy and onnxruntime on the phone" in said
    assert "EDGETFM_ADB_PYTHON" in said


def test_a_runner_that_does_not_end_in_time_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "sleeps.py").write_text("import time\ntime.sleep(60)\n")
    with pytest.raises(DeviceError, match=r"did not end within 0\.2 s"):
        emulated.run([sys.executable], tmp_path, tmp_path / "sleeps.py", limit_s=0.2)


def test_kernels_chosen_for_this_cpu_are_not_asked_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With OPENBLAS_CORETYPE=Haswell numpy ends in an illegal instruction on CPUs without AVX."""
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    runner = tmp_path / "says.py"
    runner.write_text(
        "import os, sys\n"
        "with open(f'{sys.argv[1]}/result.json', 'w') as file:\n"
        "    file.write(os.environ.get('OPENBLAS_CORETYPE', 'none') + os.environ['HOME'])\n"
    )
    emulated.run([sys.executable], tmp_path, runner)
    assert (tmp_path / "result.json").read_text() == "none" + os.environ["HOME"]


def test_the_runner_stands_alone() -> None:
    """It is pushed to phones: it may import nothing of ours."""
    code = (
        "import runpy, sys; runpy.run_path(sys.argv[1], run_name='x'); "
        "assert not [m for m in sys.modules if m.startswith('edgetfm.')]"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, runner.__file__], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
