"""A reduced onnxruntime has what a bundle needs, in the form that its own build reads."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgetfm.bundle import open_bundle
from edgetfm.cli import main
from edgetfm.errors import BundleError, OutputError
from edgetfm.manifest import MANIFEST
from edgetfm.runtime.bench import feeds_for
from edgetfm.runtime.profile import profile
from edgetfm.workflow.operators import write_operators


def test_operators_are_those_written_and_those_fused(
    tiny_bundle: Callable[..., Any], tmp_path: Path
) -> None:
    from onnxruntime.tools.reduced_build_config_parser import parse_config

    bundle = tiny_bundle("bert", "feature-extraction").bundle
    file = tmp_path / "required_operators.config"
    assert main(["inspect", str(bundle), "--operators", str(file)]) == 0
    needed, _ = parse_config(str(file))
    graph = open_bundle(bundle).graph()
    assert isinstance(graph, Path)
    model = onnx.load(graph)
    opsets = {one.domain or "ai.onnx": one.version for one in model.opset_import}
    for node in model.graph.node:
        domain = node.domain or "ai.onnx"
        assert node.op_type in needed[domain][opsets[domain]]
    listed = set().union(*(operators for one in needed.values() for operators in one.values()))
    ran = profile(graph, feeds_for(open_bundle(bundle), 1, 6), runs=1)
    assert {operator.op for operator in ran.operators} <= listed
    assert needed["com.microsoft"][1], "nothing is fused"
    own = (bundle / MANIFEST, bundle / "onnx" / "model.onnx", bundle / "new")
    for refused in (*own, tmp_path / "none" / "file", tmp_path):
        with pytest.raises(OutputError, match="cannot be written"):
            write_operators(bundle, refused)
    open_bundle(bundle)


def test_a_graph_that_onnxruntime_does_not_load_is_the_bundles_error(
    tiny_bundle: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle("bert", "feature-extraction").bundle, folder)
    said = json.loads((folder / MANIFEST).read_text())
    graph = folder / "onnx" / "model.onnx"
    graph.write_bytes(damaged := b"not protobuf")
    said["files"]["onnx/model.onnx"] = {
        "sha256": hashlib.sha256(damaged).hexdigest(),
        "bytes": len(damaged),
    }
    (folder / MANIFEST).write_text(json.dumps(said))
    with pytest.raises(BundleError, match=r"onnxruntime cannot load .*model\.onnx"):
        write_operators(folder, tmp_path / "file")
    assert not (tmp_path / "file").exists()
