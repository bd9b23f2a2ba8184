"""Every model type that transformers has is tried, or refused in a sentence: never a traceback."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from transformers import AutoConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.utils import logging

from edgetfm.errors import SourceError
from edgetfm.sources import open_source

TRIED = "has no weights: expected model.safetensors"
"""What is said of a folder whose config passes: the weights would be next."""


def config_of(model_type: str) -> dict[str, object]:
    """A config of the type as transformers saves it; the bare type where it needs more."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            saved = AutoConfig.for_model(model_type).to_dict()
        return json.loads(json.dumps(saved)) | {"model_type": model_type}
    except Exception:  # a config that is not made of nothing
        return {"model_type": model_type}


def said(folder: Path) -> str:
    with pytest.raises(SourceError) as caught:
        open_source(folder)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_every_type_of_transformers_is_tried_or_refused_in_a_sentence(tmp_path: Path) -> None:
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    tried: list[str] = []
    try:
        for model_type in CONFIG_MAPPING_NAMES:
            folder = tmp_path / model_type
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps(config_of(model_type)))
            sentence = said(folder)
            assert str(folder) in sentence or model_type in sentence, (model_type, sentence)
            assert len(sentence) < 2000, (model_type, sentence)
            assert "Traceback" not in sentence
            if TRIED in sentence:
                tried.append(model_type)
    finally:
        logging.set_verbosity(level)
    encoders = {"bert", "deberta-v2", "modernbert", "dinov2", "swin", "segformer", "detr", "clip"}
    assert encoders | {"siglip"} <= {*tried}
    assert not {"pegasus", "mvp", "opt", "bloom"} & {*tried}
    assert len(tried) > 100
