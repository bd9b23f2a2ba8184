"""The environments of other people's programs, and the bundles that are opened in them."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from edgetfm import export_model, quantize_bundle
from tests.interop.programs import HERE, Bundles, available
from tests.interop.rows import DIGITS, MATCHES, MINILM, ROOT, Case
from tests.plain import export_plain
from tests.untrained import WORDS, untrained


@pytest.fixture(scope="session")
def environments() -> ModuleType:
    """benchmarks/environments.py, which is no package's."""
    path = ROOT / "benchmarks" / "environments.py"
    spec = importlib.util.spec_from_file_location("benchmark_environments", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def python_of(environments: ModuleType) -> Callable[[str], Path]:
    """python_of(name): the Python of an environment, made now if it is not there."""
    return lambda name: available(lambda: environments.environment(name))


@pytest.fixture(scope="session")
def node_folder(environments: ModuleType) -> Path:
    """The folder in which Node has Transformers.js."""
    return available(lambda: environments.node_environment("transformers-js"))


@pytest.fixture(scope="session")
def bundles(
    minilm_folder: Path,
    tiny_bundle: Callable[..., Any],
    tiny_decoder_bundle: Callable[..., Any],
    digits: tuple[Any, Path],
    texts: list[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Bundles:
    """bundles(case, precision): a bundle that was exported just now, once a session."""
    folder = tmp_path_factory.mktemp("bundles")
    few = folder / "few.txt"
    few.write_text("\n".join(texts * 2), "utf-8")

    def get(case: Case, precision: str) -> Path:
        if case is DIGITS:
            return Path(digits[0].bundle)
        if case.task == "text-generation":
            return Path(tiny_decoder_bundle(case.model).bundle)
        place = folder / f"{case}-{precision}"
        if place.is_dir():
            return place
        if case is MATCHES:
            sides = {"image_size": [32, 32], "patch_size": [8, 8], "projection": 16}
            halves = {"width": 32, "layers": 1, "heads": 4, "inner": 32}
            sizes = {f"{of}_{name}": n for of in ("image", "text") for name, n in halves.items()}
            source = untrained("clip", case.task, folder / "clip", sides | sizes, **WORDS)
            return export_plain(source, place, case.task).bundle
        if case is not MINILM:
            made = tiny_bundle(case.model, case.task)
            if precision == "fp32":
                return Path(made.bundle)
            wanted = "agreement:0.5"  # random weights: the classes are close together
            export_model(made.source, place, task=case.task, quantize=precision, max_drop=wanted)
        elif precision == "fp32":
            export_model(minilm_folder, place)
        else:
            quantize_bundle(
                get(case, "fp32"),
                place,
                quantize=precision,
                calibration=str(few),
                samples=8,
                max_drop="cosine:0.9",  # int4 of so small a model; here it need only answer alike
            )
        return place

    return get


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is run by `make interop`."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.interop)
