"""What is quantized already is never rounded a second time without a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgetfm.errors import SourceError
from edgetfm.sources import open_source


@pytest.mark.parametrize("route", ["native", "adapter"])
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"quant_method": "gptq", "bits": 4}, "by gptq to 4 bits.* through the package gptqmodel"),
        ({"quant_method": "awq", "bits": 4}, "by awq to 4 bits.* through the package gptqmodel"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "by bitsandbytes: transformers"),
        ({"load_in_8bit": True}, "by bitsandbytes"),
        ({"quant_method": "compressed-tensors"}, "through the package compressed-tensors"),
        ({"quant_method": "new"}, "by new: .* through a package of their own"),
        ({"something": 1}, "by a method that its config does not name"),
    ],
)
def test_a_quantized_checkpoint_is_refused_by_its_method(
    tiny_hf: Callable[..., Path],
    tmp_path: Path,
    config: dict[str, Any],
    message: str,
    route: str,
) -> None:
    folder = tiny_hf("bert", "feature-extraction", tmp_path / "bert")
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"quantization_config": config}))
    with pytest.raises(SourceError, match=message) as caught:
        open_source(folder, route=route)
    assert "is quantized already" in str(caught.value)
    assert "Give the float checkpoint" in str(caught.value)
