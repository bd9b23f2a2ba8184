"""The tools that build and test the app without Google's SDK: what each is, and its sha256.

They come by the ordinary clients of the package registries, and a file with another hash is not
used. Versions that people's own builds use are in gradle/libs.versions.toml; `gradle.py` compares.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Pin:
    """A package of a registry, by its client npm, pip or apt, and what of it is kept.

    `keeps` are the beginnings of its members' names, none for all; `opens` are archives among
    them -> what is kept of those, unpacked beside them.
    """

    client: str
    name: str
    version: str
    sha256: str
    keeps: tuple[str, ...] = ()
    opens: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """Its folder in the cache: another version, hash or choice is another folder."""
        return f"{self.name}-{self.version}-{hashlib.sha256(repr(self).encode()).hexdigest()[:12]}"


AAR = "package/Plugins/Android/onnxruntime.aar"
"""ONNX Runtime 1.29.0 for Android, as an app of Gradle's gets it too."""

_MOBSF = "mobsf/StaticAnalyzer/tools/"
APKTOOL = f"{_MOBSF}apktool_2.10.0.jar"
BUNDLETOOL = f"{_MOBSF}bundletool-all-1.17.2.jar"
APKSIGNER = f"{_MOBSF}apksigner.jar"

RUNTIME = Pin(
    "npm", "com.github.asus4.onnxruntime", "0.4.9",
    "e59788788818fdde1b2e522e766a21ba0f7d8391de55737abf81e32cc801785d",
    (AAR,), {AAR: ("classes.jar", "jni/arm64-v8a/", "jni/x86_64/", "headers/")},
)  # fmt: skip
COMPILER = Pin(
    "npm", "kotlin-compiler", "2.2.10",
    "cec7d5a867deddd2d61d60f2890262cb30b9b9fc7e32cdb33aeaf8abb2bf88cb",
    ("package/lib/",),
)  # fmt: skip
STUBS = Pin(
    "pip", "chaquopy-stubs-android", "36.20260406",
    "5e18511ccb7ae519d8c4643408cf16262fa5f20eb1d1a7e97cfe28de16e12008",
)  # fmt: skip
# An analyser of apps, which carries jars with Android's own tools.
ANDROID = Pin(
    "pip", "mobsf", "4.4.0",
    "74329efc7eee885ca6b9448726ca448c6f5c7ca80ec3dc9a98ee11fb7cd7c0d4",
    (APKTOOL, BUNDLETOOL, APKSIGNER),
    {APKTOOL: ("prebuilt/linux/aapt2_64", "brut/androlib/android-framework.jar")},
)  # fmt: skip
# A C compiler for any machine, with the headers of their systems: for the library of phones.
ZIG = Pin(
    "pip", "ziglang", "0.14.1",
    "6eb9d4d759b292c83810dbee2e9e8e3fbfbf01d864e6e9811bae711fd74e1c2f",
    ("ziglang/",),
)  # fmt: skip
JUNIT = Pin(
    "apt", "junit4", "4.13.2-3",
    "2f516bef5fa0f714da4f8b95c367c00aea64159c099c5157579fb95823dbcc56",
    ("./usr/share/java/",),
)  # fmt: skip
HAMCREST = Pin(
    "apt", "libhamcrest-java", "2.2-1",
    "a3e84b0462e4bd75bfcd34dd46c9a5db6b9e7174da2d120339f4dc89aab90a56",
    ("./usr/share/java/",),
)  # fmt: skip

PINS = (RUNTIME, COMPILER, STUBS, ANDROID, ZIG, JUNIT, HAMCREST)

ONNXRUNTIME = "1.29.0"
KOTLIN = "2.2.10"
"""What the AAR and the compiler are: the catalog has to name the same."""

GRADLE = "9.4.1"
GRADLE_SHA256 = "2ab2958f2a1e51120c326cad6f385153bb11ee93b3c216c5fccebfdfbb7ec6cb"
"""What the wrapper fetches where Gradle builds the app; nothing here runs it."""
