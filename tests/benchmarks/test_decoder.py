"""The benchmark of decoders: medians and ratios of one run, and texts judged alike by all."""

from __future__ import annotations

import importlib
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def modules() -> Iterator[Callable[[str], ModuleType]]:
    """modules(name): a module of benchmarks/ or of its rivals, which are no package's."""
    folders = [str(BENCHMARKS), str(BENCHMARKS / "rivals")]
    known = set(sys.modules)
    sys.path[:0] = folders
    yield importlib.import_module
    for folder in folders:
        sys.path.remove(folder)
    for name in set(sys.modules) - known:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(BENCHMARKS)):
            del sys.modules[name]


def test_every_rival_has_its_file_and_its_environment(
    modules: Callable[[str], ModuleType],
) -> None:
    for title, module, environment in modules("decoder").KINDS.values():
        assert (BENCHMARKS / "rivals" / f"{module}.py").is_file(), title
        if environment is not None:
            pins = (BENCHMARKS / "envs" / f"{environment}.txt").read_text()
            lines = [line for line in pins.splitlines() if not line.startswith("#")]
            assert all(re.match(r"[\w.-]+==\d[\w.]*( --config-settings|$)", line) for line in lines)


def test_a_row_is_medians_and_ratios_inside_a_round(modules: Callable[[str], ModuleType]) -> None:
    """A round in which the machine was slow for both changes no ratio."""
    decoder, workers = modules("decoder"), modules("workers")
    mark = [decoder.Answer(first=s, rest=4 * s, cpu=5 * s, long=2 * s) for s in (1.0, 9.0, 1.0)]
    own = [decoder.Answer(first=s, rest=2 * s, cpu=3 * s, long=s) for s in (1.0, 9.0, 1.0)]
    fact = {"bytes": 5e6, "versions": {"edgetfm": "0.1.0"}}
    row = decoder.row(workers.Rival("ours", "ours_decoder"), fact, own, mark, threads=1)
    assert (row.ratio, row.long_ratio, row.cpu_ratio) == (2.0, 2.0, 5 / 3)
    assert (row.first_ms, row.long_ms, row.seconds) == (1000.0, 1000.0, 3.0)
    assert row.tokens_per_second == (decoder.NEW - 1) / 2.0
    assert (row.cpu_share, row.megabytes) == (1.0, 5.0)


def test_a_log_likelihood_is_of_the_token_that_came(modules: Callable[[str], ModuleType]) -> None:
    logits = np.log([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [1.0, 1e-9, 1e-9]]) + 300
    found = modules("shared").log_likelihoods(logits, [2, 1, 2])
    assert found == pytest.approx([math.log(0.25), math.log(0.8)])


@pytest.mark.slow
def test_rivals_judge_a_text_alike(
    modules: Callable[[str], ModuleType], tiny_decoder_bundle: Callable[..., Any], tmp_path: Path
) -> None:
    """A bundle in float32, and PyTorch on the checkpoint that it was made of."""
    decoder, workers = modules("decoder"), modules("workers")
    made = tiny_decoder_bundle("llama")
    ids = np.random.default_rng(0).integers(5, 300, 40).tolist()
    found = []
    for module, model in (("ours_decoder", made.bundle), ("torch_decoder", made.source)):
        rival = workers.Rival(module, module)
        place = tmp_path / module
        with workers.Worker(rival, place, "0", decoder.SCRIPT) as worker:
            worker.ask("prepare", model=str(model), threads=1)
            scores = worker.ask("score", ids=ids)["log_likelihoods"]
            found.append((scores, worker.ask("generate", ids=ids, new=8)["tokens"]))
    (ours, said), (theirs, wanted) = found
    assert ours == pytest.approx(theirs, abs=1e-4)
    assert said == wanted
    assert len(ours) == len(ids) - 1
