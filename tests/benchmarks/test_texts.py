"""The texts that rivals are judged on are nobody's calibration."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from edgetfm import samples
from edgetfm.search.evidence import split

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def texts() -> ModuleType:
    """benchmarks/texts.py, which is no package's."""
    spec = importlib.util.spec_from_file_location("benchmark_texts", BENCHMARKS / "texts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_judged_texts_are_long_reviews_in_the_order_of_their_hash(texts: ModuleType) -> None:
    judged = texts.judged_texts()
    hashes = [texts.text_hash(text) for text in judged]
    assert len(judged) == 200
    assert hashes == sorted(set(hashes))
    assert min(len(text.split()) for text in judged) >= 50
    assert texts.judged_hashes() == set(hashes)


def test_the_shipped_calibration_shares_nothing_with_the_judged_texts(texts: ModuleType) -> None:
    shipped = samples.texts()
    assert not texts.judged_hashes() & {texts.text_hash(text.strip()) for text in shipped}
    reviews = [" ".join(text.lower().split()) for text in texts.judged_texts()]
    for text in shipped:  # not a part of one either: eight words in a row are no accident
        words = text.lower().split()
        runs = [" ".join(words[i : i + 8]) for i in range(max(1, len(words) - 7))]
        if len(words) >= 8:
            assert not [run for run in runs for review in reviews if run in review]


def test_rivals_calibrate_on_other_reviews_than_the_judged(texts: ModuleType) -> None:
    calibration = texts.calibration_texts(300)
    assert len(calibration) == 300
    assert not texts.judged_hashes() & {texts.text_hash(text) for text in calibration}


def test_what_judges_a_variant_is_not_what_it_was_calibrated_on() -> None:
    fit, judged = split(samples.texts())
    assert not set(fit) & set(judged)
    assert len(fit) + len(judged) == len(samples.texts())


def test_as_many_texts_as_would_reach_the_calibration_are_refused(texts: ModuleType) -> None:
    with pytest.raises(SystemExit, match="calibration"):
        texts.judged_texts(texts.CALIBRATION_FROM + 1)
