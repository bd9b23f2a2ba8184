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
from edgetfm.workflow.quantize import quantize_bundle
from tests.conftest import make_tiny_hf

pytestmark = pytest.mark.slow

MULTIPLY = str(Path(__file__).with_name("multiply.py"))

VERIFY = """
import json, sys
from edgetfm import verify_bundle

print(json.dumps({bundle: verify_bundle(bundle).failures for bundle in sys.argv[1:]}))
"""

Case = tuple[Any, Any, Any]
Multiply = Callable[[str, list[Case]], list[Any]]
Missed = Callable[[str, Path], list[str]]


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
    return quantize_bundle(flat, target, quantize="int8", target="x86-avx2").path


@pytest.fixture(scope="module")
def real_fp32(minilm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real encoder in float32."""
    return export_model(minilm_folder, tmp_path_factory.mktemp("real") / "fp32").path


@pytest.fixture(scope="module")
def real(real_fp32: Path) -> Path:
    """It as int8, made without a target."""
    return quantize_bundle(real_fp32, real_fp32.with_name("int8"), quantize="int8").path


@pytest.fixture(scope="module")
def real_for_avx2(real_fp32: Path) -> Path:
    """It as int8, made for AVX2 too."""
    target = real_fp32.with_name("int8-avx2")
    return quantize_bundle(real_fp32, target, quantize="int8", target="x86-avx2").path


@pytest.fixture(scope="module")
def missed(on_cpu: Any, flat: Path, flat_for_avx2: Path, real: Path, real_for_avx2: Path) -> Missed:
    """missed(target, bundle): the bounds that a replay of the bundle misses on such a CPU.

    All bundles at once: there, starting takes longer than verifying.
    """
    bundles = [str(path) for path in (flat, flat_for_avx2, real, real_for_avx2)]
    found: dict[str, dict[str, list[str]]] = {}

    def get(target: str, bundle: Path) -> list[str]:
        if target not in found:
            done = on_cpu(target, "-c", VERIFY, *bundles)
            assert done.returncode == 0, done.stderr
            found[target] = json.loads(done.stdout)
        return found[target][str(bundle)]

    return get


def test_what_is_made_for_no_target_fails_where_pairs_saturate(
    missed: Missed, flat: Path, real: Path
) -> None:
    """Of the real one hardly anything overflows, a pair in 10,000, and yet it is too much."""
    for bundle in (flat, real):
        assert any("cosine" in bound for bound in missed("x86-avx2", bundle))
        assert missed("x86-sse", bundle) == []


@pytest.mark.parametrize("target", ["x86-avx2", "x86-sse", "x86-vnni"])
def test_what_is_made_for_avx2_passes_everywhere(
    missed: Missed, flat_for_avx2: Path, real_for_avx2: Path, target: str
) -> None:
    assert missed(target, flat_for_avx2) == []
    assert missed(target, real_for_avx2) == []


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
