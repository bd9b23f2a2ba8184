"""A hub id is fetched, with its revision; what keeps it from that is said in a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetfm.bundle import open_bundle
from edgetfm.errors import BundleError, InputError, SourceError
from edgetfm.files import inside
from edgetfm.runtime.model import load
from edgetfm.sources import open_source
from edgetfm.sources._hub import locate
from tests.sources.hub import COMMIT, Hub, serving


@pytest.fixture(scope="module")
def model(tiny_hf: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tiny_hf("bert", "feature-extraction", tmp_path_factory.mktemp("hub") / "model")
    stages = [("", "Transformer"), ("1_Pooling", "Pooling")]
    kinds = [{"path": at, "type": f"sentence_transformers.models.{kind}"} for at, kind in stages]
    (folder / "modules.json").write_text(json.dumps(kinds))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (folder / "pytorch_model.bin").write_bytes(b"never fetched")
    return folder


@pytest.fixture
def hub(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that the client is pointed at, with a cache of its own."""
    from huggingface_hub import constants

    with serving(Hub("tiny/bert", model)) as made:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", made.endpoint)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE",
                            made.endpoint + "/{repo_id}/resolve/{revision}/{filename}")  # fmt: skip
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        yield made


def test_an_id_is_fetched_once_and_read_from_the_cache(hub: Hub) -> None:
    opened = open_source("tiny/bert")
    assert opened.name == "tiny/bert"
    assert opened.config.pooling == "cls"
    fetched = [p.rpartition("/")[2] for p in hub.asked if "/resolve/" in p]
    assert "model.safetensors" in fetched
    assert "pytorch_model.bin" not in fetched
    before = len(fetched)
    open_source("tiny/bert@v1")
    assert len([p for p in hub.asked if "/resolve/" in p]) == before
    assert any(p.endswith("/revision/v1") for p in hub.asked)


def test_a_commit_is_fetched_by_its_number(hub: Hub) -> None:
    folder, name = locate(f"tiny/bert@{COMMIT}")
    assert folder.name == COMMIT
    assert name == f"tiny/bert@{COMMIT}"


@pytest.mark.parametrize(
    ("spec", "refuses", "message"),
    [
        ("tiny/bert@v9", None, r"'tiny/bert' has no revision 'v9'"),
        ("tiny/other", None, r"no such model on the Hugging Face hub: check the id"),
        ("tiny/bert", (401, "GatedRepo"), r"is gated: accept its terms.*hf auth login.*HF_TOKEN"),
        ("tiny/bert", (403, "GatedRepo"), r"is gated"),
        ("tiny/bert", (401, ""), r"log in with `hf auth login` or HF_TOKEN if it is private"),
        ("tiny/bert", (500, ""), r"it answered 500.*check the id and the network"),
    ],
)
def test_what_the_hub_refuses_is_one_helpful_sentence(
    hub: Hub, spec: str, refuses: tuple[int, str] | None, message: str
) -> None:
    hub.refuses = refuses
    with pytest.raises(SourceError, match=message) as caught:
        open_source(spec)
    assert "\n" not in str(caught.value)


def test_a_download_that_breaks_off_says_so_and_goes_on_later(hub: Hub) -> None:
    hub.cut = {"model.safetensors"}
    with pytest.raises(SourceError, match=r"could not be fetched whole.*goes on where it stopped"):
        open_source("tiny/bert")
    hub.cut = set()
    assert open_source("tiny/bert").name == "tiny/bert"


def test_without_a_hub_the_cache_answers_or_one_sentence(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match=r"could not be fetched.*check the id and the network"):
        open_source("tiny/bert")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    wanted, _ = locate("tiny/bert")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert locate("tiny/bert")[0] == wanted


def test_a_model_without_its_config_or_its_weights_is_refused(
    hub: Hub, model: Path, tmp_path: Path
) -> None:
    hub.folder = tmp_path / "bare"
    shutil.copytree(model, hub.folder)
    (hub.folder / "model.safetensors").unlink()
    with pytest.raises(SourceError, match=r"has no weights: expected model\.safetensors"):
        open_source("tiny/bert")


# --- bundles in a hub cache ---------------------------------------------------------------------


def cached(bundle: Path, cache: Path) -> Path:
    """The bundle as the hub's client keeps it: every file a link to a blob."""
    home = cache / "models--me--bundle"
    snapshot, blobs = home / "snapshots" / COMMIT, home / "blobs"
    blobs.mkdir(parents=True)
    for i, file in enumerate(f for f in bundle.rglob("*") if f.is_file()):
        place = snapshot / file.relative_to(bundle)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blobs / f"{i:040x}")
        up = "../" * (len(place.relative_to(home).parts) - 1)
        place.symlink_to(f"{up}blobs/{i:040x}")
    return snapshot


def test_a_bundle_in_a_hub_cache_opens_and_answers(
    tiny_bundle: Callable[..., Any], tmp_path: Path
) -> None:
    bundle = tiny_bundle("bert", "feature-extraction").bundle
    snapshot = cached(bundle, tmp_path)
    feeds = {
        "input_ids": np.array([[2, 9, 3]]),
        "attention_mask": np.ones((1, 3), int),
        "token_type_ids": np.zeros((1, 3), int),
    }
    got, wanted = load(snapshot).run(feeds), load(bundle).run(feeds)
    assert all(np.array_equal(got[name], wanted[name]) for name in wanted)


def test_links_that_leave_the_cache_of_their_repository_are_refused(
    tiny_bundle: Callable[..., Any], tmp_path: Path
) -> None:
    snapshot = cached(tiny_bundle("bert", "feature-extraction").bundle, tmp_path)
    other = tmp_path / "models--you--other" / "blobs"
    other.mkdir(parents=True)
    link = snapshot / "onnx" / "model.onnx"
    for place in (other / "0", tmp_path / "outside", snapshot.parents[1] / "blobs" / "deep" / "0"):
        place.parent.mkdir(exist_ok=True)
        shutil.copy(link.resolve() if link.is_file() else place, place)
        kept = link.readlink()
        link.unlink()
        link.symlink_to(place)
        with pytest.raises(BundleError, match="leaves its folder through a link"):
            open_bundle(snapshot)
        link.unlink()
        link.symlink_to(kept)
    open_bundle(snapshot)


def test_blobs_of_another_layout_are_no_cache(tmp_path: Path) -> None:
    for home in (tmp_path / "plain", tmp_path / "models--a--b"):
        (home / "blobs").mkdir(parents=True)
        (home / "blobs" / "0").write_text("x")
        inner = "snapshots" if home.name == "plain" else "shots"
        (home / inner / "rev").mkdir(parents=True)
        (home / inner / "rev" / "file").symlink_to("../../blobs/0")
        with pytest.raises(InputError, match="leaves its folder through a link"):
            inside(home / inner / "rev", "file")
