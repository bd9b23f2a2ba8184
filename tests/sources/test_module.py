"""A user's own module becomes a bundle; what it cannot be is said in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgetfm.errors import EdgetfmError, InputError, SourceError
from edgetfm.runtime.model import load
from edgetfm.sources import open_source
from edgetfm.workflow.export import export_model
from edgetfm.workflow.verify import verify_bundle
from tests.sources import models_of_users

FILE = Path(models_of_users.__file__)
HERE = "tests.sources.models_of_users"


def axes(spec: str) -> dict[str, tuple[int | str, ...]]:
    signature = open_source(f"{HERE}:{spec}").signature
    return {t.name: t.shape for t in (*signature.inputs, *signature.outputs)}


def test_free_axes_are_found_and_outputs_are_named() -> None:
    assert axes("tagger") == {
        "input_ids": ("batch", "sequence"),
        "attention_mask": ("batch", "sequence"),
        "tags": ("batch", "sequence", 5),
        "logits": ("batch", 3),
    }
    assert axes("attend") == {
        "x": ("batch", "x_1", 4),
        "y": ("batch", "y_1", 4),
        "first": ("batch", "x_1", "y_1"),
        "second": ("batch", "x_1", 4),
    }
    assert axes("picture") == {
        "pixel_values": ("batch", 3, "pixel_values_2", "pixel_values_3"),
        "output": ("batch", 4),
    }
    assert axes("of_one") == {"x": (1, 8), "output_0": (1, 4), "output_1": (1,)}


def test_cases_have_other_sizes_but_none_that_the_module_does_not_take() -> None:
    cases = open_source(f"{HERE}:tagger").cases
    shapes = {case["input_ids"].shape for case in cases}
    assert {(8, 9), (1, 9), (2, 6), (3, 12)} <= shapes
    assert max(length for _, length in shapes) <= 24
    assert all(np.isin(case["input_ids"], cases[0]["input_ids"]).all() for case in cases)


def test_a_file_and_inputs_from_elsewhere_give_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FILE.parent)
    np.savez(tmp_path / "in.npz", **{n: t.numpy() for n, t in models_of_users.inputs().items()})
    ways = [
        open_source(f"./{FILE.name}:tagger_alone", inputs=f"{HERE}:inputs"),
        open_source(f"{FILE}:tagger_alone", inputs=str(tmp_path / "in.npz")),
        open_source(f"{HERE}:tagger"),
    ]
    assert len({way.signature for way in ways}) == 1
    assert len({way.provenance["sha256"]["weights"] for way in ways}) == 1


def test_a_module_is_asked_again_with_the_inputs_it_was_exported_with(tmp_path: Path) -> None:
    module, given = f"{HERE}:tagger_alone", f"{HERE}:inputs"
    bundle = export_model(module, tmp_path / "bundle", inputs=given).path
    ledger = verify_bundle(bundle, reference=module, inputs=given)
    assert ledger.passed
    assert f"PyTorch ({module})" in {r.against for r in ledger.rungs}
    with pytest.raises(InputError, match=r"nothing says what .* takes"):
        verify_bundle(bundle, reference=module)
    with pytest.raises(InputError, match="belongs to a --reference"):
        verify_bundle(bundle, inputs=given)


def test_a_signature_says_what_is_free(tmp_path: Path) -> None:
    opened = open_source(f"{HERE}:tagger_alone", inputs=f"{HERE}:signature")
    assert [t.shape for t in opened.signature.inputs] == [("batch", 8), ("batch", 8)]
    assert "proven on noise" in " ".join(opened.notes)
    with pytest.raises(SourceError, match="works for batch = 1 alone, the signature calls it free"):
        open_source(f"{HERE}:of_one_called_free")


def test_a_module_is_proven_quantized_and_verified(tmp_path: Path) -> None:
    spec, output = f"{HERE}:tagger", tmp_path / "bundle"
    result = export_model(spec, output, quantize="int8", max_drop="cosine:0.99")
    assert result.ledger.passed
    assert (result.route, result.task, result.variant) == ("module", "other", "int8")
    rows = {rung.name for rung in result.ledger.rungs}
    assert {"fp32 graph", "fp32 alone", "int8", "int8 alone"} <= rows
    feeds = {n: t.numpy() for n, t in models_of_users.ids(3, 11).items()}
    wanted = open_source(spec).reference()(feeds)
    got = load(output).run(feeds)
    assert got["tags"].shape == (3, 11, 5)
    cosine = (got["logits"] * wanted["logits"]).sum() / (
        np.linalg.norm(got["logits"]) * np.linalg.norm(wanted["logits"])
    )
    assert cosine > 0.99
    assert verify_bundle(output, reference=spec).passed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["attend", "picture", "of_one"])
def test_other_kinds_of_modules_are_proven(name: str, tmp_path: Path) -> None:
    result = export_model(f"{HERE}:{name}", tmp_path / "bundle")
    assert result.ledger.passed
    opened = open_source(f"{HERE}:{name}")
    model = load(tmp_path / "bundle")
    for feeds in opened.cases:
        wanted = opened.reference()(feeds)
        got = model.run(feeds)
        assert all(np.abs(got[n] - wanted[n]).max() < 1e-4 for n in wanted)


def test_too_few_examples_are_not_calibrated_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"too few to calibrate on: give np\.savez"):
        export_model(f"{HERE}:attend", tmp_path / "bundle", quantize="int8")


def test_a_task_is_taken_if_the_module_does_it() -> None:
    assert open_source(f"{HERE}:tagger", task="text-classification").task == "text-classification"
    with pytest.raises(SourceError, match="leave --task out, or give 'other'"):
        open_source(f"{HERE}:tagger", task="image-classification")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such_module:build", r"no_such_module cannot be imported: ModuleNotFoundError"),
        ("./no_such_file.py:build", r"no_such_file\.py cannot be imported: FileNotFoundError"),
        (f"{HERE}:absent", r"has no function 'absent'"),
        (f"{HERE}:torch", r"is module, expected a function"),
        (f"{HERE}:failing", r"failing failed: RuntimeError: the weights are elsewhere"),
        (f"{HERE}:nothing", r"returns nothing, expected an nn\.Module"),
        (f"{HERE}:inputs", r"returns a dict, expected an nn\.Module"),
        (f"{HERE}:scripted", r"returns a TorchScript module: return the nn\.Module"),
        (f"{HERE}:tagger_alone", r"nothing says what .* takes \(input_ids, attention_mask\)"),
        (f"{HERE}:loose", r"forward of .* takes \*x: .* give each of them a name"),
        (f"{HERE}:text_out", r"must return tensors.*\n?name is a str"),
        (f"{HERE}:integers_out", r"no output is float"),
        (f"{HERE}:sized_by_values", "size of 'output' depends on the values"),
        (f"{HERE}:sparse", "example input 'input' is no array of numbers"),
        (f"{HERE}:without_signature", "signature of .* failed: RuntimeError: not now"),
        (f"{HERE}:without_forward", "has no parameters to read: RuntimeError: not now"),
        (f"{HERE}:branching", r"control flow depends on the values of its inputs"),
        (f"{HERE}:drawing", r"does not answer twice the same: 'output' draws random"),
        (f"{HERE}:shapes_apart", r"does not take input float32\[2, 3\]: RuntimeError: mat1"),
        (f"{HERE}:flagged", r"'scale' is a float, expected a tensor or array"),
        (f"{HERE}:misnamed", r"have z; its forward takes x, y, scale"),
    ],
)
def test_what_cannot_be_a_model_is_said(
    spec: str, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EdgetfmError, match=message) as caught:
        open_source(spec)
    assert caught.value.exit_code == 2
    assert capfd.readouterr() == ("", "")


def test_weights_that_change_from_call_to_call_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = open_source(f"{HERE}:other_each_time")
    with pytest.raises(SourceError, match="gave other weights when it was called again"):
        opened.module()


def test_inputs_and_routes_belong_to_modules_alone(
    tiny_hf: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tiny_hf("bert", "feature-extraction", tmp_path / "bert")
    with pytest.raises(InputError, match="leave out --inputs"):
        open_source(folder, inputs=f"{HERE}:inputs")
    with pytest.raises(InputError, match="leave out --route native"):
        open_source(f"{HERE}:tagger", route="native")
