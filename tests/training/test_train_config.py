"""A training configuration is checked whole, and every problem is listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgetfm.errors import InputError
from edgetfm.training import TrainConfig, load_config
from edgetfm.training.config import shipped_configs

GOOD: dict[str, Any] = {
    "family": "vit",
    "task": "image-classification",
    "dataset": "digits",
    "epochs": 2,
}


def test_a_shipped_configuration_is_found_by_name() -> None:
    assert "vit-digits" in shipped_configs()
    config = load_config("vit-digits")
    assert (config.family, config.dataset) == ("vit", "digits")


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_configuration_is_one(name: str) -> None:
    assert TrainConfig.from_dict(load_config(name).to_json()) == load_config(name)


@pytest.mark.parametrize("name", ["vit-digit", "absent.toml", "", "../vit-digits"])
def test_an_unknown_name_lists_what_ships(name: str) -> None:
    with pytest.raises(InputError, match=r"no training configuration .*vit-digits"):
        load_config(name)


def test_all_unknown_and_missing_keys_are_listed() -> None:
    with pytest.raises(InputError) as raised:
        TrainConfig.from_dict({"family": "vit", "epoch": 3, "lr": 0.1})
    for said in ("'epoch'", "'lr'", "'task'", "'dataset'", "'epochs'", "known keys are family, "):
        assert said in str(raised.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("epochs", 0), ("epochs", 1.5), ("epochs", True), ("epochs", "3"), ("batch", 0)),
        *(("learning_rate", 0.0), ("learning_rate", float("nan")), ("learning_rate", "fast")),
        *(("warmup", 1.1), ("label_smoothing", 1.0), ("clip", 0), ("shift", -1), ("seed", -1)),
        *(("model", 3), ("family", 3), ("weight_decay", float("inf"))),
    ],
)
def test_a_value_that_cannot_be_is_refused(key: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"{key} is .*expected"):
        TrainConfig.from_dict(GOOD | {key: value})


def test_an_empty_dataset_is_not_the_folder_one_stands_in() -> None:
    with pytest.raises(InputError, match="dataset is empty"):
        TrainConfig.from_dict(GOOD | {"dataset": ""})


def test_all_bad_values_are_listed() -> None:
    with pytest.raises(InputError) as raised:
        TrainConfig.from_dict(GOOD | {"epochs": -1, "warmup": 2.0})
    assert "epochs is -1" in str(raised.value)
    assert "warmup is 2.0" in str(raised.value)


def test_overrides_change_values_and_the_model() -> None:
    config = load_config("vit-digits", {"epochs": 3, "model.width": 16})
    assert config.epochs == 3
    assert config.model["width"] == 16
    assert config.model["layers"] == load_config("vit-digits").model["layers"]
    with pytest.raises(InputError, match="unknown key 'epoch'"):
        load_config("vit-digits", {"epoch": 3})
    with pytest.raises(InputError, match="epochs is not a table"):
        load_config("vit-digits", {"epochs.width": 3})


def test_a_file_is_read_and_its_dataset_is_beside_it(tmp_path: Path) -> None:
    lines = ['family = "vit"', 'task = "image-classification"', "epochs = 1", 'dataset = "d.npz"']
    (tmp_path / "mine.toml").write_text("\n".join(lines))
    assert load_config(tmp_path / "mine.toml").dataset == "d.npz"
    (tmp_path / "d.npz").write_bytes(b"")
    assert load_config(tmp_path / "mine.toml").dataset == str(tmp_path / "d.npz")


@pytest.mark.parametrize("content", [b"family = ", b"\xff\xfe", b"= 3", b"a=" + b"[" * 5000])
def test_a_file_that_is_not_toml_is_said(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(InputError, match="is not a TOML file"):
        load_config(tmp_path / "mine.toml")
