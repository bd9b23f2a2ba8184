"""Replays a bundle's vectors with numpy and onnxruntime alone: what any device has to do.

    python replay.py BUNDLE ANSWERS.npz

Knows of a bundle only what docs/bundle.md says. The answers are named as in vectors.npz.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime


def replay(bundle: Path) -> dict[str, np.ndarray]:
    """What the variant that ships answers to each case."""
    manifest = json.loads((bundle / "edgetfm.json").read_text("utf-8"))
    variant = manifest["components"]["model"]["variants"][manifest["default"]]
    options = onnxruntime.SessionOptions()
    for key, value in manifest["session"].get("config_entries", {}).items():
        options.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(
        str(bundle / variant["file"]),
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=manifest["session"].get("disabled_optimizers"),
    )
    given = {i.name for i in session.get_inputs()}
    names = [o.name for o in session.get_outputs()]
    answers = {}
    with np.load(bundle / "vectors.npz") as vectors:
        cases = json.loads((bundle / "vectors.json").read_text("utf-8"))["cases"]
        for case in range(len(cases)):
            feeds = {name: vectors[f"{case}.inputs.{name}"] for name in given}
            for name, answer in zip(names, session.run(names, feeds), strict=True):
                answers[f"{case}.shipped.{name}"] = answer
    return answers


if __name__ == "__main__":
    sys.stdout.write(onnxruntime.__version__)
    np.savez(sys.argv[2], **replay(Path(sys.argv[1])))
