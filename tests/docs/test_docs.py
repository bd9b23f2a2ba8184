"""Every command, file and program in the docs works as it stands there.

A `console` block is run line by line: its commands must succeed, and each line below a command
must be in what it prints, numbers and spaces aside. A `python` or `toml` block with a file name
is written to that file; a `python` block without one is run. All blocks of a walk share a folder,
in the order a reader meets them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.adapter.conftest import tiny_of_type as tiny_of_type
from tests.encoder_decoders import make_tiny_writer

ROOT = Path(__file__).parent.parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

FIRST_STEPS = ("README.md", "docs/getting-started.md", "docs/bundle.md")
QUANTIZATION = ("docs/quantization.md",)
NEW_FAMILY = ("docs/adding-a-family.md",)
AUDIO = ("docs/audio.md",)
PICTURES = ("docs/pictures.md",)
SOURCES = ("docs/sources.md",)
GENERATION = ("docs/generation.md",)
TRAINING = ("docs/training.md",)
SPEECH = ("docs/speech.md",)
TRANSLATION = ("docs/translation.md",)
MATCHING = ("docs/matching.md",)
SCENES = ("docs/detection.md", "docs/segmentation.md")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file name beside it, its text."""

    language: str
    file: str
    text: str


def blocks(page: Path) -> list[Block]:
    found = re.findall(
        r"^```(\w+)(?: (\S+))?\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE
    )
    return [Block(*parts) for parts in found]


@dataclass(frozen=True)
class Step:
    """A command and the lines the docs show below it."""

    command: str
    shown: tuple[str, ...]


def steps(block: Block) -> list[Step]:
    found: list[Step] = []
    for line in block.text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            found.append(Step(line[2:], ()))
        elif line.strip() and line.strip() != "...":
            found[-1] = Step(found[-1].command, (*found[-1].shown, line))
    return found


def skeleton(line: str) -> str:
    """A line without what differs from run to run: numbers, rules and spaces."""
    line = re.sub(r"\x1b\[[\d;]*m", "", line)
    return " ".join(re.sub(r"[-±]?\d[\d.,]*(?:e[-+]?\d+)?", "N", line).split())


def read_out(
    page: str, folder: Path, environment: dict[str, str], done: dict[str, str] | None = None
) -> int:
    """Do everything a page says; the number of commands and programs that ran.

    done: what the exports of the pages before printed. One that a page repeats would replace its
    bundle by the same bytes: with --force, it is not done again.
    """
    ran, done = 0, {} if done is None else done
    for block in blocks(ROOT / page):
        if block.file:
            (folder / block.file).write_text(block.text)
        elif block.language == "console":
            for step in steps(block):
                ran += 1
                plain = step.command.removesuffix(" --force")
                output = done.get(plain) if plain != step.command else None
                output = output or run(["bash", "-c", step.command], folder, environment)
                if plain.startswith("edgetfm export"):
                    done[plain] = output
                there = {skeleton(line) for line in output.splitlines()}
                missing = [line for line in step.shown if skeleton(line) not in there]
                assert missing == [], f"{page}: `{step.command}` printed\n{output}"
        elif block.language == "python":
            ran += 1
            run([sys.executable, "-c", block.text], folder, environment)
    return ran


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, f"{command[-1]}\nexit code {done.returncode}\n{done.stdout}"
    return done.stdout


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A shell in which `edgetfm` and `python` are those that are being tested."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, words in (("edgetfm", "-m edgetfm"), ("python", "")):
        script = programs / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        script.chmod(0o755)
    # As wide as the docs show it: pytest's workers say 80 columns.
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    return plain | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path / "site")]),
        "HF_HUB_OFFLINE": "1",
        "TERM": "dumb",
    }


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The empty folder in which a page is walked."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.mark.slow
def test_the_first_steps_work_as_written(
    work: Path, environment: dict[str, str], minilm_folder: Path
) -> None:
    (work / "sentence-transformers").mkdir()
    # The hub id of the docs, here as a folder of that name: a folder comes before the hub.
    (work / "sentence-transformers" / "all-MiniLM-L6-v2").symlink_to(minilm_folder)
    done: dict[str, str] = {}
    ran = [read_out(page, work, environment, done) for page in FIRST_STEPS]
    assert min(ran) > 0
    assert (work / "minilm-int8" / "report.html").is_file()


@pytest.mark.slow
def test_the_choices_of_quantization_work_as_written(
    work: Path, environment: dict[str, str], short_minilm_folder: Path
) -> None:
    """On the first layers of the model that the page names: all its commands, in less time."""
    (work / "sentence-transformers").mkdir()
    (work / "sentence-transformers" / "all-MiniLM-L6-v2").symlink_to(short_minilm_folder)
    assert read_out(QUANTIZATION[0], work, environment) >= 9


@pytest.mark.slow
def test_sources_work_as_written(
    work: Path, environment: dict[str, str], short_minilm_folder: Path
) -> None:
    """On the first layers of the model that the page names: all its commands, in less time."""
    (work / "sentence-transformers").mkdir()
    (work / "sentence-transformers" / "all-MiniLM-L6-v2").symlink_to(short_minilm_folder)
    assert read_out(SOURCES[0], work, environment) == 7


@pytest.mark.slow
def test_sounds_work_as_written(
    work: Path, environment: dict[str, str], tiny_speech: Callable[..., Path]
) -> None:
    """On a tiny random model: no real one of this kind is in a package."""
    tiny_speech(work / "facebook" / "wav2vec2-large-960h-lv60-self")
    assert read_out(AUDIO[0], work, environment) == 4


@pytest.mark.slow
def test_pictures_work_as_written(
    work: Path,
    environment: dict[str, str],
    tiny_of_type: Callable[[str, Path], Path],
    pictures: list[Path],
) -> None:
    """On tiny random models: no real ones of these kinds are in a package."""
    from PIL import Image

    for row, name in (
        ("clip", "openai/clip-vit-base-patch32"),
        ("segformer-pixels", "nvidia/segformer-b0-finetuned-ade-512-512"),
    ):
        (work / name).parent.mkdir(parents=True)
        tiny_of_type(row, work / name)
    with Image.open(pictures[0]) as image:
        image.resize((96, 64)).save(work / "photo.png")
    assert read_out(PICTURES[0], work, environment) == 6


def test_a_family_from_outside_works_as_written(
    tmp_path: Path, work: Path, environment: dict[str, str]
) -> None:
    installed = tmp_path / "site" / "mixer-0.1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mixer\nVersion: 0.1\n")
    (said,) = (b for b in blocks(ROOT / NEW_FAMILY[0]) if "entry-points" in b.text)
    group, entry = said.text.split("\n", 1)
    group = group.removeprefix('[project.entry-points."').removesuffix('"]')
    (installed / "entry_points.txt").write_text(f"[{group}]\n{entry.replace(chr(34), '')}")
    environment["PYTHONPATH"] += os.pathsep + str(work)
    assert read_out(NEW_FAMILY[0], work, environment) == 3


@pytest.mark.slow
def test_generation_works_as_written(
    work: Path, environment: dict[str, str], tiny_decoder: Callable[..., Path]
) -> None:
    # The hub id of the docs, here a folder of that name with a tiny random model.
    tiny_decoder("llama", work / "HuggingFaceTB" / "SmolLM2-135M-Instruct")
    assert read_out(GENERATION[0], work, environment) == 7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "kind", "name", "steps"),
    [
        (TRANSLATION[0], "t5-gated", "google-t5/t5-small", 5),
        (SPEECH[0], "whisper", "openai/whisper-tiny.en", 6),
    ],
)
def test_texts_about_a_source_work_as_written(
    page: str, kind: str, name: str, steps: int, work: Path, environment: dict[str, str]
) -> None:
    """On tiny random models."""
    from tests.conftest import CORPUS

    words = re.findall(r"\w+|[^\w\s]+", " ".join(CORPUS))
    make_tiny_writer(kind, work / name, words)
    assert read_out(page, work, environment) == steps


@pytest.mark.slow
def test_captions_work_as_written(work: Path, environment: dict[str, str]) -> None:
    assert read_out(MATCHING[0], work, environment) == 5


@pytest.mark.slow
def test_training_works_as_written(tmp_path: Path, work: Path, environment: dict[str, str]) -> None:
    launcher = tmp_path / "bin" / "accelerate"
    launcher.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m accelerate.commands.accelerate_cli "$@"\n'
    )
    launcher.chmod(0o755)
    assert read_out(TRAINING[0], work, environment) == 7
    metrics = json.loads((work / "runs" / "long" / "metrics.json").read_text())
    assert metrics["complete"] is False
    assert metrics["steps"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("page", SCENES)
def test_scenes_work_as_written(page: str, work: Path, environment: dict[str, str]) -> None:
    assert read_out(page, work, environment) >= 5
    assert any((work / "drawn").glob("*.png"))


def test_every_page_is_walked() -> None:
    walked = {
        ROOT / page
        for page in (
            *FIRST_STEPS,
            *QUANTIZATION,
            *NEW_FAMILY,
            *AUDIO,
            *PICTURES,
            *SOURCES,
            *GENERATION,
            *TRAINING,
            *SPEECH,
            *TRANSLATION,
            *MATCHING,
            *SCENES,
        )
    }
    with_commands = {p for p in DOCS if any(b.language == "console" for b in blocks(p))}
    assert with_commands <= walked
    assert walked <= set(DOCS)


@pytest.mark.parametrize("page", [*DOCS, ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_links_and_make_targets_exist(page: Path) -> None:
    text = page.read_text()
    links = re.findall(r"\]\(([^)#]+)(?:#[\w-]*)?\)", text)
    broken = [x for x in links if "://" not in x and not (page.parent / x).exists()]
    assert broken == []
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z][\w-]+)`", text)) <= targets


def test_every_configuration_that_ships_is_named() -> None:
    text = (ROOT / TRAINING[0]).read_text()
    shipped = {file.stem for file in (ROOT / "edgetfm" / "configs").glob("*.toml")}
    assert shipped == {name for name in shipped if f"`{name}`" in text.split("## One run")[0]}


def test_options_in_the_docs_exist() -> None:
    import click

    from edgetfm.cli import VERBS, cli

    context = click.Context(cli)
    options = {"--help", "--version"}
    for name in VERBS:
        command = cli.get_command(context, name)
        assert command is not None
        options |= {o for p in command.params for o in p.opts}
    for page in DOCS:
        text = page.read_text()
        said = set(re.findall(r"`(?:edgetfm [^`]*)?(--[a-z][\w-]+)[^`]*`", text))
        assert said <= options, page
