"""AVX2 without VNNI adds pairs of products in 16 bits: the real kernels, beside the replay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgetfm.bundle import open_bundle
from edgetfm.quantize.items import items
from edgetfm.quantize.saturation import overflows, pair_overflow, sample
from edgetfm.runtime._ort import ort
from edgetfm.vectors import read_vectors
from edgetfm.workflow.export import export_model
from tests.conftest import make_tiny_hf

pytestmark = pytest.mark.slow

MULTIPLY = str(Path(__file__).with_name("multiply.py"))

Case = tuple[Any, Any, Any]
Multiply = Callable[[str, list[Case]], list[Any]]


@pytest.fixture
def multiply(on_cpu: Any, tmp_path: Path) -> Multiply:
    """multiply(target, cases): the product of each (steps, weight, zero point) on such a CPU."""

    def run(target: str, cases: list[Case]) -> list[Any]:
        given, made = tmp_path / f"{target}-in.npz", tmp_path / f"{target}-out.npz"
        names = ("steps", "weight", "zero")
        arrays = {
            f"{name}_{number}": array
            for number, case in enumerate(cases)
            for name, array in zip(names, case, strict=True)
        }
        np.savez(given, **arrays)
        done = on_cpu(target, MULTIPLY, str(given), str(made))
        assert done.returncode == 0, done.stderr
        products = np.load(made)
        return [products[f"product_{number}"] for number in range(len(cases))]

    return run


def exact(steps: Any, weight: Any, zero: Any) -> Any:
    return (steps.astype(np.int64) - int(zero)) @ weight.astype(np.int64)


def random_cases() -> list[Case]:
    """One row and many, odd lengths, lengths below a vector's, zero points at both ends."""
    rng = np.random.default_rng(0)
    cases = []
    for tokens in (1, 2, 5, 33):
        for inputs in (1, 2, 3, 5, 64, 65, 130):
            for outputs in (1, 3, 16, 33):
                steps = rng.choice([0, 127, 128, 200, 255], (tokens, inputs)).astype(np.uint8)
                weight = rng.choice([-128, -127, 3, 127], (inputs, outputs)).astype(np.int8)
                cases.append((steps, weight, np.uint8(rng.choice([0, 77, 255]))))
    return cases


@pytest.mark.parametrize("target", ["x86-avx2", "x86-sse", "x86-vnni"])
def test_the_replay_loses_what_the_kernel_loses(multiply: Multiply, target: str) -> None:
    """Which pairs, which activations and which limits: to the bit, and nothing elsewhere."""
    cases = random_cases()
    wrong = 0
    for case, product in zip(cases, multiply(target, cases), strict=True):
        lost = pair_overflow(*case[:2])[1] if target == "x86-avx2" else 0
        np.testing.assert_array_equal(product, exact(*case) - lost)
        wrong += not np.array_equal(product, exact(*case))
    assert wrong > 50 if target == "x86-avx2" else wrong == 0


def flat_model(folder: Path) -> Path:
    """A BERT whose weights are all of one size, with channels ten times larger than the rest."""
    import transformers

    made = make_tiny_hf("bert", "feature-extraction", folder, hidden_size=64, intermediate_size=128)
    model = transformers.AutoModel.from_pretrained(made)
    for name, weight in model.named_parameters():
        if weight.ndim == 2 and "embeddings" not in name:
            weight.data = weight.data.sign() * weight.data.abs().mean()
        if "LayerNorm.weight" in name:
            weight.data[::16] *= 10
    model.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The flat model as int8, made without a target."""
    folder = tmp_path_factory.mktemp("flat")
    source = flat_model(folder / "source")
    return export_model(source, folder / "int8", quantize="int8", keep_fp32=True).path


@pytest.fixture(scope="module")
def flat_for_avx2(flat: Path) -> Path:
    """The flat model as int8, made for AVX2 too."""
    target = flat.with_name("int8-avx2")
    source = flat.with_name("source")
    return export_model(source, target, quantize="int8", target="x86-avx2").path


def verify(on_cpu: Any, target: str, bundle: Path) -> tuple[int, list[str]]:
    """The exit code of `edgetfm verify` on such a CPU, and the bounds that were missed."""
    done = on_cpu(target, "-m", "edgetfm", "verify", str(bundle), "--json")
    said = json.loads(done.stdout)
    return done.returncode, [missed for rung in said["rungs"] for missed in rung["missed"]]


def test_a_flat_model_made_for_no_target_fails_where_pairs_saturate(
    on_cpu: Any, flat: Path
) -> None:
    code, missed = verify(on_cpu, "x86-avx2", flat)
    assert code == 3
    assert any("cosine" in bound for bound in missed)
    assert verify(on_cpu, "x86-sse", flat) == (0, [])


@pytest.mark.parametrize("target", ["x86-avx2", "x86-sse", "x86-vnni"])
def test_a_flat_model_made_for_avx2_passes_everywhere(
    on_cpu: Any, flat_for_avx2: Path, target: str
) -> None:
    assert verify(on_cpu, target, flat_for_avx2) == (0, [])


def inputs_of_products(graph: Path, feeds: list[Any]) -> dict[str, Case]:
    """Of each MatMulInteger, what it multiplies on these feeds; gathered without the replay."""
    model = onnx.load(graph)
    products = [node for node in model.graph.node if node.op_type == "MatMulInteger"]
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    names = sorted({node.input[0] for node in products})
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort().SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = ort().InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    seen = [dict(zip(names, session.run(names, feed), strict=True)) for feed in feeds]

    def rows(name: str) -> Any:
        return np.concatenate([one[name].reshape(-1, one[name].shape[-1]) for one in seen])

    return {
        node.name.removesuffix("_int32"): (rows(node.input[0]), stored[node.input[1]], np.uint8(0))
        for node in products
    }


@pytest.mark.parametrize("made_for", ["none", "x86-avx2"])
def test_the_replay_names_the_nodes_that_the_kernel_gets_wrong(
    multiply: Multiply, flat: Path, flat_for_avx2: Path, made_for: str
) -> None:
    bundle = open_bundle(flat if made_for == "none" else flat_for_avx2)
    graph = bundle.path(bundle.manifest.components["model"].variants["int8"].file)
    feeds = [item.feeds for item in items(read_vectors(bundle).cases)]
    assert len(sample(feeds)) == len(feeds)
    cases = inputs_of_products(graph, feeds)
    made = multiply("x86-avx2", list(cases.values()))
    wrong = {
        name
        for (name, case), product in zip(cases.items(), made, strict=True)
        if not np.array_equal(product, exact(*case))
    }
    assert {overflow.node for overflow in overflows(graph, feeds)} == wrong
    assert bool(wrong) == (made_for == "none")
    assert len(cases) == 8


def test_minilm_is_right_on_avx2_only_if_made_for_it(
    on_cpu: Any, minilm_folder: Path, tmp_path: Path
) -> None:
    """A real encoder: hardly anything overflows, one pair sum in 10,000, and yet it is too much."""
    plain = export_model(minilm_folder, tmp_path / "plain", quantize="int8").path
    cured = export_model(minilm_folder, tmp_path / "cured", quantize="int8", target="x86-avx2").path
    code, missed = verify(on_cpu, "x86-avx2", plain)
    assert code == 3, missed
    assert verify(on_cpu, "x86-sse", plain) == (0, [])
    assert verify(on_cpu, "x86-avx2", cured) == (0, [])
