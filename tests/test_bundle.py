"""A bundle is written whole, opened only if it is whole, and never led out of its folder."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgetfm.bundle import Bundle, BundleWriter, open_bundle
from edgetfm.errors import BundleError, InputError, OutputError
from edgetfm.manifest import MANIFEST, SCHEMA, Component, Manifest, Variant
from edgetfm.signature import Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("input_ids", "int64", ("batch", "sequence")),),
    (TensorSpec("logits", "float32", ("batch", 2)),),
)


def manifest(**changes: Any) -> Manifest:
    values: dict[str, Any] = {
        "task": "text-classification",
        "family": "bert",
        "route": "native",
        "default": "int8",
        "components": {
            "model": Component(
                SIGNATURE,
                {
                    "fp32": Variant("onnx/model.onnx", "onnx/model.onnx_data"),
                    "int8": Variant("onnx/model_int8.onnx", recipe={"name": "int8"}),
                },
            )
        },
        "labels": ("good", "schön"),
        "source": {"kind": "huggingface"},
    }
    return Manifest(**(values | changes))


def write(target: Path, *, force: bool = False) -> Bundle:
    with BundleWriter(target, force=force) as writer:
        for name in ("onnx/model.onnx", "onnx/model.onnx_data", "onnx/model_int8.onnx"):
            writer.write(name, f"the content of {name}")
        writer.write("config.json", "{}")
        writer.write("README.md", "# A model")
        return writer.commit(manifest())


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write(tmp_path / "bundle").root


def edit_manifest(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
    change(data)
    (root / MANIFEST).write_text(json.dumps(data), encoding="utf-8")


def test_what_was_written_is_read(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert opened.manifest.components == manifest().components
    assert opened.manifest.labels == ("good", "schön")
    assert opened.variant().file == "onnx/model_int8.onnx"
    assert opened.variant("fp32").data == "onnx/model.onnx_data"
    assert opened.variant_bytes("fp32") == len("the content of onnx/model.onnx" * 2) + len("_data")
    assert opened.path("config.json").read_text() == "{}"
    assert "README.md" not in opened.manifest.files
    assert (bundle / "README.md").is_file()


def test_the_same_content_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    again = write(tmp_path / "again").root
    assert (bundle / MANIFEST).read_bytes() == (again / MANIFEST).read_bytes()


def test_an_unknown_variant_or_component_lists_what_there_is(bundle: Path) -> None:
    opened = open_bundle(bundle)
    with pytest.raises(InputError, match=r"no variant 'q4' in .*; it has fp32, int8"):
        opened.variant("q4")
    with pytest.raises(InputError, match=r"no variant '' in .*; it has fp32, int8"):
        opened.variant("")
    with pytest.raises(InputError, match="no component 'decoder'; there are model"):
        opened.variant(component="decoder")


def test_evidence_may_grow(bundle: Path) -> None:
    (bundle / "README.md").write_text("another")
    (bundle / "report.html").write_text("new")
    assert open_bundle(bundle).manifest.task == "text-classification"


# --- damage -------------------------------------------------------------------------------------


def test_every_damaged_file_is_listed(bundle: Path) -> None:
    (bundle / "config.json").write_text("[]")
    (bundle / "onnx" / "model.onnx").unlink()
    (bundle / "onnx" / "model_int8.onnx").write_text("longer than it was, by some characters")
    with pytest.raises(BundleError, match="is damaged") as raised:
        open_bundle(bundle)
    for said in (
        "config.json was changed",
        "onnx/model.onnx is missing",
        "onnx/model_int8.onnx has 38 bytes, expected 35",
    ):
        assert said in str(raised.value)
    with pytest.raises(BundleError) as quick:
        open_bundle(bundle, check_hashes=False)
    assert "config.json" not in str(quick.value)


def test_a_folder_that_is_no_bundle_is_said(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        open_bundle(tmp_path / "absent")
    with pytest.raises(BundleError, match=r"has no edgetfm\.json"):
        open_bundle(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="it is a file"):
        open_bundle(tmp_path / "file")
    with pytest.raises(BundleError, match="cannot be read"):
        open_bundle(tmp_path / ("x" * 300))


def test_a_newer_schema_asks_for_an_upgrade(bundle: Path) -> None:
    edit_manifest(bundle, lambda data: data.update(schema=SCHEMA + 1))
    with pytest.raises(BundleError, match=f"schema {SCHEMA + 1}.* reads up to {SCHEMA}.*upgrade"):
        open_bundle(bundle)


@pytest.mark.parametrize("schema", [None, 0, -1, True, "1", 1.0, [1]])
def test_a_schema_that_is_no_number_is_refused(bundle: Path, schema: Any) -> None:
    edit_manifest(bundle, lambda data: data.update(schema=schema))
    with pytest.raises(BundleError, match="no valid 'schema'"):
        open_bundle(bundle)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe{}", b"[" * 100_000),
        b'{"schema": 1' + b"0" * 5_000 + b"}",
    ],
    ids=lambda c: repr(c[:12]),
)
def test_a_manifest_that_is_not_one_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError):
        open_bundle(bundle)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", "model", "fp32", "int64", "../x", "/etc/passwd", "x\0y", "\ud800"])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def places(data: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value, as keys from the top."""
    if not isinstance(data, dict | list):
        return [here]
    items = data.items() if isinstance(data, dict) else enumerate(data)
    return [here, *(p for key, value in items for p in places(value, (*here, key)))]


@given(data=st.data())
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_manifest_breaks_the_reader(bundle: Path, data: st.DataObject) -> None:
    """One place of a good manifest is replaced or taken out: refused, or read as a manifest."""
    good = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    try:
        open_bundle_with(bundle, mutated(good, data))
    except BundleError:
        pass
    finally:
        (bundle / MANIFEST).write_text(json.dumps(good), encoding="utf-8")


def mutated(good: dict[str, Any], data: st.DataObject) -> Any:
    changed = copy.deepcopy(good)
    place = data.draw(st.sampled_from(places(changed)))
    value = data.draw(json_values)
    if not place:
        return value
    inner: Any = changed
    for key in place[:-1]:
        inner = inner[key]
    if isinstance(inner, dict) and data.draw(st.booleans()):
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return changed


def open_bundle_with(bundle: Path, data: Any) -> None:
    (bundle / MANIFEST).write_text(json.dumps(data), encoding="utf-8")
    opened = open_bundle(bundle)
    read = opened.manifest
    assert read.default in read.components["model"].variants
    assert Manifest.from_json(json.loads(json.dumps(read.to_json()))).to_json() == read.to_json()
    assert isinstance(read.preprocessing, dict)
    assert isinstance(read.session, dict)
    for precision in read.components["model"].variants:
        assert opened.path(opened.variant(precision).file).is_file()
        assert opened.variant_bytes(precision) > 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("task", "poetry"), ("task", ["text-classification"]), ("default", "q4")),
        *(("default", []), ("components", {}), ("components", []), ("preprocessing", "x")),
        *(("session", 3), ("labels", "ab"), ("labels", None), ("labels", [1])),
        *(("session", {"config_entries": 5}), ("session", {"providers": ["X"]})),
        ("session", {"config_entries": {"session.use_env_allocators": "1"}}),
        ("session", {"config_entries": {"session.set_denormal_as_zero": "\ud800"}}),
        ("session", {"disabled_optimizers": ["\ud800"]}),
        *(("files", []), ("files", {"a": 3}), ("licence", 3), ("budget", None)),
        *(("task", "fill-mask"), ("task", "question-answering"), ("task", "image-classification")),
    ],
)
def test_values_of_another_kind_are_refused(bundle: Path, key: str, value: Any) -> None:
    edit_manifest(bundle, lambda data: data.update({key: value}))
    with pytest.raises(BundleError, match="malformed"):
        open_bundle(bundle)


def test_a_variant_whose_file_is_not_listed_is_refused(bundle: Path) -> None:
    edit_manifest(bundle, lambda data: data["files"].pop("onnx/model_int8.onnx"))
    with pytest.raises(BundleError, match=r"onnx/model_int8\.onnx is not in the list of files"):
        open_bundle(bundle)


# --- paths that leave the folder ----------------------------------------------------------------


@pytest.mark.parametrize("where", ["../secret", "/etc/hostname", "onnx/../../secret", "x\0y"])
def test_a_listed_path_that_leaves_the_folder_is_refused(bundle: Path, where: str) -> None:
    (bundle.parent / "secret").write_text("secret")

    def listed(data: dict[str, Any]) -> None:
        data["files"][where] = {"sha256": "0" * 64, "bytes": 6}

    edit_manifest(bundle, listed)
    with pytest.raises(BundleError, match="path"):
        open_bundle(bundle)


def test_a_link_that_leaves_the_folder_is_refused(bundle: Path) -> None:
    """Even with the right content behind it."""
    file = bundle / "onnx" / "model.onnx"
    moved = bundle.parent / "elsewhere.onnx"
    moved.write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(moved)
    with pytest.raises(BundleError, match="through a link"):
        open_bundle(bundle)


@pytest.mark.parametrize("where", ["../x", "/tmp/x", "..", ""])
def test_a_writer_does_not_leave_its_folder(tmp_path: Path, where: str) -> None:
    with BundleWriter(tmp_path / "out") as writer, pytest.raises(InputError, match="leaves"):
        writer.write(where, "x")


# --- where a bundle may go ----------------------------------------------------------------------


def test_an_existing_bundle_is_replaced_with_force_only(bundle: Path) -> None:
    before = (bundle / MANIFEST).read_bytes()
    with pytest.raises(OutputError, match="--force"):
        write(bundle)
    (bundle / "config.json").write_text("damaged")
    assert write(bundle, force=True).root == bundle
    assert (bundle / MANIFEST).read_bytes() == before
    assert open_bundle(bundle).path("config.json").read_text() == "{}"


@pytest.mark.parametrize("force", [True, False])
def test_what_is_not_a_bundle_is_left_alone(tmp_path: Path, force: bool) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_text("cat")
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    for name in ("photos", "file", "link"):
        with pytest.raises(OutputError, match="left alone"):
            BundleWriter(tmp_path / name, force=force)
    assert (tmp_path / "photos" / "cat.png").read_text() == "cat"


def test_an_empty_or_missing_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "empty", tmp_path / "deep" / "er"):
        assert open_bundle(write(target).root).manifest.family == "bert"


def test_the_working_folder_may_be_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = write(tmp_path / "out").root
    monkeypatch.chdir(target)
    write(Path(), force=True)
    assert open_bundle(target).manifest.family == "bert"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["x" * 300, "x" * 250, "zero\0byte", "file/below"])
def test_a_target_that_cannot_be_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError), BundleWriter(tmp_path / name):
        raise AssertionError("the writer has begun")


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    writer = BundleWriter(tmp_path / "out")
    with contextlib.suppress(ZeroDivisionError), writer:
        writer.write("config.json", "{}")
        assert writer.staging.is_dir()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_could_not_be_opened_is_not_written(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "out") as writer, pytest.raises(BundleError, match="not in the"):
        writer.commit(manifest())
    assert list(tmp_path.iterdir()) == []


def test_a_discarded_file_is_gone(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "out") as writer:
        for name in ("onnx/model.onnx", "onnx/model.onnx_data", "onnx/model_int8.onnx", "extra"):
            writer.write(name, name)
        writer.discard("extra")
        assert "extra" not in writer.entries
        writer.commit(manifest())
    assert not (tmp_path / "out" / "extra").exists()


def test_a_file_is_copied_with_its_hash(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("tokens")
    with BundleWriter(tmp_path / "out") as writer:
        writer.copy(tmp_path / "tokenizer.json", "tokenizer.json")
        assert writer.entries["tokenizer.json"].bytes == 6


def test_a_bundle_without_the_component_model_is_refused(bundle: Path) -> None:
    edit_manifest(
        bundle, lambda data: data.update(components={"encoder": data["components"]["model"]})
    )
    with pytest.raises(BundleError, match="its components are encoder, expected 'model' alone, or"):
        open_bundle(bundle)


def test_the_root_is_no_place_for_a_bundle() -> None:
    with pytest.raises(OutputError, match="a folder with a name"):
        BundleWriter("/")


def test_a_failure_leaves_no_parents_that_it_made(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    with pytest.raises(KeyError), BundleWriter(tmp_path / "old" / "new" / "newer" / "bundle"):
        raise KeyError
    assert list(tmp_path.rglob("*")) == [tmp_path / "old"]
