"""What a model is calibrated on and judged by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgetfm import samples
from edgetfm.bundle import open_bundle
from edgetfm.errors import DataError
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.search.evidence import WINDOW, Evidence, gather, paired, split, windows_to_judge
from edgetfm.search.goal import Goal
from edgetfm.tasks import TASKS
from tests.plain import Exported


def gathered(exported: Exported, goal: Goal) -> Evidence:
    bundle = open_bundle(exported.bundle)
    manifest = bundle.manifest
    signature = manifest.components["model"].signature
    preprocessor = Preprocessor.from_folder(bundle.root, manifest.preprocessing, signature)
    return gather(preprocessor, signature, TASKS[manifest.task], goal, None)


def test_nothing_is_calibrated_on_and_judged_by(masked_lm_bundle: Exported) -> None:
    made = gathered(masked_lm_bundle, Goal("auto"))
    seen = [{row.tobytes() for f in part for row in f["input_ids"]} for part in
            (made.calibration, made.judged)]  # fmt: skip
    assert all(seen)
    assert not seen[0] & seen[1]


@pytest.mark.parametrize("texts", [10, 91])
def test_no_part_of_what_judges_is_calibrated_on(texts: int, tmp_path: Path) -> None:
    data = tmp_path / "captions.txt"
    data.write_text("\n".join(f"a boat with {i} fish" for i in range(texts)))
    made = paired(data, ("text", "image"))
    fit, judge = split(made.items)
    for part in (0, 1):
        keys = [{np.asarray(item[part]).tobytes() for item in items} for items in (fit, judge)]
        assert not keys[0] & keys[1]
    assert made.count == max(texts, 48)


@pytest.mark.parametrize("vocabulary", [32_000, 49_152, 151_936, 262_144])
def test_a_thousand_tokens_judge_a_decoder_of_any_vocabulary(vocabulary: int) -> None:
    assert windows_to_judge(vocabulary) * WINDOW == 1024
    assert windows_to_judge(1000) * WINDOW > 30_000, "those of a small one cost nothing"


def test_tokens_in_arrays_are_items_as_texts_are(
    masked_lm_bundle: Exported, tmp_path: Path
) -> None:
    bundle = open_bundle(masked_lm_bundle.bundle)
    manifest = bundle.manifest
    signature = manifest.components["model"].signature
    preprocessor = Preprocessor.from_folder(bundle.root, manifest.preprocessing, signature)
    feeds = preprocessor.texts(samples.texts()[:40])
    np.savez(tmp_path / "tokens.npz", **feeds)
    made = gathered(masked_lm_bundle, Goal("auto", calibration=tmp_path / "tokens.npz"))
    assert made.facts["count"] == 40
    assert sum(len(f["input_ids"]) for f in made.calibration) == 30
    shipped = gathered(masked_lm_bundle, Goal("auto"))
    assert len(made.cases) == len(shipped.cases)


def test_random_tokens_are_refused_as_calibration_data(
    masked_lm_bundle: Exported, tmp_path: Path, rng: np.random.Generator
) -> None:
    ids = rng.integers(0, 30000, (40, 64))
    ones = np.ones_like(ids)
    np.savez(tmp_path / "r.npz", input_ids=ids, attention_mask=ones, token_type_ids=0 * ones)
    with pytest.raises(DataError, match="text"):
        gathered(masked_lm_bundle, Goal("auto", calibration=tmp_path / "r.npz"))


def test_samples_limits_how_many_items_are_looked_at(
    masked_lm_bundle: Exported, tmp_path: Path
) -> None:
    data = tmp_path / "texts.txt"
    data.write_text("\n".join(f"the boat came back with {i} fish" for i in range(100)))
    made = gathered(masked_lm_bundle, Goal("auto", calibration=data, samples=20))
    assert made.facts["count"] == 20


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
