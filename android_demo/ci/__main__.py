"""`python android_demo/ci`: lints, compiles, tests and packs the Android app without Google's SDK.

In CI a tool that is missing fails; elsewhere the run ends with the reason.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import apk
import apk_checks
import arm64
import bionic
import gradle
import kotlin
import manifest
import tools
from kotlin import Failed

WORK = kotlin.PROJECT.parent / "runs" / "android"


def main() -> int:
    """0 if everything holds, or tools are missing outside CI."""
    began = time.monotonic()
    try:
        with step("the Gradle files"):
            held_to(gradle.problems(kotlin.PROJECT))
        with step("the tools"):
            held = tools.ready()
            arm64.ready()
        with step("the library's manifest"):
            library = manifest.of_library(held.package)
            held_to(manifest.brought(library, apk.SOURCES / "main" / "AndroidManifest.xml"))
        run(held)
    except tools.Missing as reason:
        print(f"android: {reason}", file=sys.stderr)
        if os.environ.get("CI"):
            return 1
        print("android: skipped")
        return 0
    except Failed as failure:
        print(f"android: {failure}", file=sys.stderr)
        return 1
    print(f"android: everything holds, {time.monotonic() - began:.0f} s")
    return 0


def run(held: tools.Tools) -> None:
    """Bundles are exported while Kotlin is compiled, and the emulator works beside the JVM."""
    import given

    WORK.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(1) as beside:
        exporting = beside.submit(given.bundles, WORK / "bundles")
        with step("Kotlin, every warning an error"):
            core, tests = compiled(held)
            flavors = apk.compiled(held, core, WORK / "apk")
            native = WORK / "native"
            bionic.build(held.aar / "jni" / "x86_64", native)
        with step("bundles from edgetfm export"):
            made = exporting.result()
        shown = {name: made[name] for name in given.SHIPPED}
        emulating = beside.submit(arm64.replayed, held, shown, WORK / "arm64")
        with step("what Python answers"):
            laid = given.lay(made, WORK / "bundles", WORK / "given")
        with step("JUnit, with the app's own ONNX Runtime"):
            kotlin.junit(held, [core, tests], native, laid, kotlin.tests())
        with step("the APK"):
            assets = shipped(list(shown.values()))
            file = apk.packed(held, flavors["standard"], assets, WORK / "apk")
            held_to(apk_checks.problems(held, file, shown))
            print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
        with step("the library of phones on emulated ARM CPUs"):
            held_to(arm64.problems(emulating.result()))


def compiled(held: tools.Tools) -> tuple[Path, Path]:
    """The core and its tests as jars."""
    runtime = held.aar / "classes.jar"
    core = kotlin.compile(held, kotlin.sources("core/src/main"), [runtime], WORK / "core.jar")
    tests = kotlin.compile(
        held, kotlin.sources("core/src/test"), [core, runtime, *held.junit],
        WORK / "core-test.jar", friend=core,
    )  # fmt: skip
    return core, tests


def shipped(bundles: list[Path]) -> Path:
    """An assets folder with the bundles, put there by `edgetfm android`."""
    assets = WORK / "assets"
    shutil.rmtree(assets, ignore_errors=True)
    assets.mkdir()
    apk.run(sys.executable, "-m", "edgetfm", "android", *bundles, "-o", assets)
    return assets


def held_to(problems: list[str]) -> None:
    """Failed, with all problems, if there are any."""
    if problems:
        raise Failed("\n- ".join(["this does not hold:", *problems]))


@contextmanager
def step(name: str) -> Iterator[None]:
    """Says what is done, and how long it took."""
    print(f"== {name}", flush=True)
    began = time.monotonic()
    yield
    print(f"   {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
