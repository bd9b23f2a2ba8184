"""Kotlin compiled with every warning an error, and its JUnit tests run on the JVM."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools import Tools

PROJECT = Path(__file__).resolve().parents[1]
_COMPILER = ("kotlin-compiler", "kotlin-stdlib", "kotlin-script-runtime", "kotlin-reflect",
             "kotlin-daemon-client", "annotations-13.0", "kotlinx-coroutines-core-jvm")  # fmt: skip


class Failed(Exception):
    """A step that did not pass."""


def sources(*folders: str) -> list[Path]:
    """The Kotlin files of folders of the project."""
    return sorted(f for folder in folders for f in (PROJECT / folder).rglob("*.kt"))


def compile(
    tools: Tools,
    files: Sequence[Path],
    classpath: Sequence[Path],
    into: Path,
    friend: Path | None = None,
) -> Path:
    """Kotlin to class files of Java 8 against Java 8's own classes, which Android 7 has.

    friend: a jar whose internal names the files may use, as tests do.
    """
    jars = ":".join(str(tools.kotlin / f"{name}.jar") for name in _COMPILER)
    held = [*classpath, tools.kotlin / "kotlin-stdlib.jar"]
    done = subprocess.run(
        ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx1500m", "-cp", jars,
         "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-no-stdlib", "-no-reflect",
         "-jvm-target", "1.8", "-Xjdk-release=8", "-Werror", "-module-name", into.stem,
         *([f"-Xfriend-paths={friend}"] if friend else []),
         "-cp", ":".join(map(str, held)), "-d", str(into), *map(str, files)],
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise Failed("the Kotlin does not compile")
    return into


def junit(
    tools: Tools, classes: Sequence[Path], native: Path, given: Path, tests: Sequence[str]
) -> None:
    """The test classes, with the AAR's library for x86_64 that `bionic` made loadable."""
    classpath = [*classes, tools.aar / "classes.jar", tools.kotlin / "kotlin-stdlib.jar"]
    done = subprocess.run(
        ["java", "-Xmx2g", f"-Donnxruntime.native.path={native}", f"-Dedgetfm.given={given}",
         "-cp", ":".join(map(str, [*classpath, *tools.junit])),
         "org.junit.runner.JUnitCore", *tests],
        check=False,
        env={**os.environ, "LD_LIBRARY_PATH": str(native),
             "LD_PRELOAD": str(native / "libbionic_shim.so"), "ORT_DISABLE_TELEMETRY": "1"},
    )  # fmt: skip
    if done.returncode:
        raise Failed("JUnit tests fail")


def tests() -> list[str]:
    """The names of the core's test classes."""
    folder = PROJECT / "core/src/test/kotlin"
    files = sorted(folder.rglob("*Test.kt"))
    return [".".join(f.relative_to(folder).with_suffix("").parts) for f in files]
