"""Every variant of MiniLM answers in each ONNX Runtime that we name as it did when exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgetfm.bundle import open_bundle
from edgetfm.proof import Subject, device_rung
from edgetfm.vectors import read_vectors
from tests.interop.programs import HERE, Bundles, run
from tests.interop.rows import MINILM, PRECISIONS, RUNTIMES, pinned


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_vectors_are_replayed(
    precision: str, bundles: Bundles, python_of: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle = open_bundle(bundles(MINILM, precision))
    vectors = read_vectors(bundle)
    assert vectors.variant == precision
    subject = Subject.of_bundle(bundle.manifest)
    own = subject.compare(vectors.shipped, vectors.pytorch, vectors.cases).measures()
    for version in RUNTIMES:
        answers = tmp_path / f"{version}.npz"
        python = python_of(f"onnxruntime-{version}")
        ran = run([python, HERE / "replay.py", bundle.root, answers])
        assert ran == pinned(f"onnxruntime-{version}", "onnxruntime")
        with np.load(answers) as found:
            got = [
                {name: found[f"{case}.shipped.{name}"] for name in shipped}
                for case, shipped in enumerate(vectors.shipped)
            ]
        against = subject.compare(got, vectors.shipped, vectors.cases)
        replayed = device_rung(precision, version, "the exporter", against, own, subject.oracle)
        assert replayed.passed, replayed


@pytest.mark.parametrize("precision", PRECISIONS)
def test_onnx_finds_nothing_wrong(precision: str, bundles: Bundles) -> None:
    bundle = open_bundle(bundles(MINILM, precision))
    file = bundle.path(bundle.variant().file)
    onnx.checker.check_model(str(file), full_check=True)
    model = onnx.load(str(file), load_external_data=False)
    opsets = {o.domain: o.version for o in model.opset_import}
    assert (model.ir_version, opsets.pop("")) == (8, 17)  # as docs/interop.md says: far below 1.29
    contrib = {"com.microsoft": 1} if precision in ("int4", "int8-weight") else {}
    assert opsets == contrib


def test_the_oldest_runtime_is_the_one_that_the_package_asks_for() -> None:
    from tests.test_installation import PROJECT

    (asked,) = PROJECT["project"]["optional-dependencies"]["cpu"]
    assert asked == f"onnxruntime>={RUNTIMES[0]}"
    for version in RUNTIMES:
        assert pinned(f"onnxruntime-{version}", "onnxruntime").startswith(f"{version}.")
