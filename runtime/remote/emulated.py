"""Other CPUs than this machine's, emulated by qemu without root: their answers, not their times.

qemu and a small ARM system come from Debian's packages, which apt checks by their signed lists;
the ARM wheels come from pip, which checks their hashes.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from edgetfm.errors import DeviceError
from edgetfm.runtime.remote import store

RUNNER = Path(__file__).with_name("runner.py")
LIMIT_S = 1800
"""Seconds after which a run is given up."""

X86_CPUS = {
    "x86-avx2": "Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid",
    "x86-sse": "Nehalem",
}
"""Device -> what qemu calls such a CPU, less what qemu cannot do and would say on every start."""

_QEMU = ("qemu-x86_64-static", "qemu-aarch64-static")
_ARM_PACKAGES = ("python3.11-minimal", "libpython3.11-stdlib", "libstdc++6")

_CPUINFO = """\
processor\t: {number}
BogoMIPS\t: 50.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: {variant}
CPU part\t: {part}
CPU revision\t: {revision}

"""
ARM_CPUS = {
    "neoverse-n1": {
        "features": "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid "
        "asimdrdm lrcpc dcpop asimddp",
        "variant": "0x3",
        "part": "0xd0c",
        "revision": "1",
    },
    "cortex-a53": {
        "features": "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid",
        "variant": "0x0",
        "part": "0xd03",
        "revision": "4",
    },
}
"""What Linux says of each. onnxruntime reads it to choose kernels, and qemu 7.2 would show this
machine's: it crashes on what it finds there."""


OF_THIS_CPU = ("OPENBLAS_CORETYPE", "NPY_ENABLE_CPU_FEATURES", "NPY_DISABLE_CPU_FEATURES")
"""Variables that choose numpy's kernels for this machine's CPU: another one may not have them."""


def _qemu_folder() -> Path:
    return store.keyed("qemu", "qemu-user-static, amd64")


def _arm_folder() -> Path:
    return store.keyed("arm64", store.pins("arm64") + repr((_ARM_PACKAGES, ARM_CPUS)))


def qemu(program: str) -> Path | None:
    """qemu-x86_64-static or qemu-aarch64-static: from the cache, else the system's."""
    kept = _qemu_folder() / program
    if store.is_finished(_qemu_folder()) and _is_program(kept):
        return kept
    found = shutil.which(program)
    return None if found is None else Path(found)


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def missing(name: str, *programs: str, arm: bool = False) -> Callable[[], str | None]:
    """What `Device.missing` says of an emulated device."""

    def say() -> str | None:
        if sys.platform != "linux" or platform.machine() != "x86_64":
            return f"Linux on x86-64 to emulate it on (this is {sys.platform} {platform.machine()})"
        lacking = [program for program in programs if qemu(program) is None]
        if arm and not (store.is_finished(_arm_folder()) and _arm_python(_arm_folder()).is_file()):
            lacking.append("an ARM system to run in")
        if not lacking:
            return None
        return f"{' and '.join(lacking)}: edgetfm doctor --install {name}"

    return say


def bring_qemu() -> None:
    """Both emulators, into the cache."""

    def fill(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            store.debian_packages("amd64", ("qemu-user-static",), Path(place))
            for package in (Path(place) / "cache" / "archives").glob("qemu-user-static_*.deb"):
                store.unpack(package, Path(place) / "files")
            for name in _QEMU:
                (Path(place) / "files" / "usr" / "bin" / name).replace(folder / name)
        store.write_hashes(folder)

    def whole(folder: Path) -> bool:
        return all(_is_program(folder / name) for name in _QEMU) and store.is_intact(folder)

    store.make(_qemu_folder(), fill, whole)


def bring_arm() -> None:
    """The emulators, and an ARM system with Python, numpy and onnxruntime: about 130 MB."""
    bring_qemu()

    def fill(folder: Path) -> None:
        tree, site = folder / "tree", folder / "site"
        with tempfile.TemporaryDirectory(dir=folder) as place:
            store.debian_packages("arm64", _ARM_PACKAGES, Path(place))
            for package in sorted((Path(place) / "cache" / "archives").glob("*.deb")):
                store.unpack(package, tree)
            wheels = Path(place) / "wheels"
            store.output_of(
                sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes",
                "--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_27_aarch64",
                "--platform=manylinux_2_28_aarch64", "-d", wheels,
                "-r", store.PINS / "arm64.txt",
            )  # fmt: skip
            for wheel in wheels.glob("*.whl"):
                zipfile.ZipFile(wheel).extractall(site)
        for extra in ("usr/share", "var"):
            shutil.rmtree(tree / extra, ignore_errors=True)
        for cpu, said in ARM_CPUS.items():
            root = folder / cpu
            (root / "proc").mkdir(parents=True)
            text = "".join(_CPUINFO.format(number=number, **said) for number in range(2))
            (root / "proc" / "cpuinfo").write_text(text, encoding="ascii")
            for name in ("usr", "lib"):
                (root / name).symlink_to(f"../tree/{name}")
        store.write_hashes(folder)

    def whole(folder: Path) -> bool:
        return _arm_python(folder).is_file() and store.is_intact(folder)

    store.make(_arm_folder(), fill, whole)


def _arm_python(folder: Path) -> Path:
    return folder / "tree" / "usr" / "bin" / "python3.11"


def variables() -> dict[str, str]:
    """This process's environment for a program on another CPU, on one thread."""
    others = {name: word for name, word in os.environ.items() if name not in OF_THIS_CPU}
    return others | {"OMP_NUM_THREADS": "1"}


def x86_command(device: str) -> list[str]:
    """This Python on another x86 CPU, of X86_CPUS."""
    program = qemu("qemu-x86_64-static")
    if program is None:
        raise DeviceError("there is no qemu-x86_64-static")
    return [str(program), "-cpu", X86_CPUS[device], sys.executable]


def arm_system(cpu: str) -> Path:
    """Where the ARM system lies, with what Linux says of an ARM CPU."""
    return _arm_folder() / cpu


def arm_machine(cpu: str) -> list[str]:
    """What runs a program of the ARM system on an ARM CPU."""
    program, root = qemu("qemu-aarch64-static"), arm_system(cpu)
    if program is None or not root.is_dir():
        raise DeviceError("there is no ARM system to emulate")
    return [str(program), "-cpu", cpu, "-L", str(root)]


def arm_command(cpu: str) -> list[str]:
    """The ARM system's Python on an ARM CPU."""
    machine, folder, root = arm_machine(cpu), _arm_folder(), arm_system(cpu)
    variables = {
        "PYTHONPATH": folder / "site",
        "PYTHONHOME": root / "usr",
        # Python compiles its modules once, beside the tree: whose hashes stay what they were.
        "PYTHONPYCACHEPREFIX": folder.with_name(f"{folder.name}-compiled"),
        "LD_LIBRARY_PATH": "/usr/lib/aarch64-linux-gnu:/lib/aarch64-linux-gnu",
        "OPENBLAS_NUM_THREADS": "1",
    }
    settings = [word for key, value in variables.items() for word in ("-E", f"{key}={value}")]
    python = root / "usr" / "bin" / "python3.11"
    return [*machine, *settings, str(python)]


def check_qemu(name: str = "x86-avx2") -> None:
    """DeviceError if the emulators in the cache were changed; those of the system are its own.

    name: the device that asks, whose installation mends them.
    """
    if store.is_finished(_qemu_folder()):
        store.check_hashes(_qemu_folder(), name)


def check_arm(name: str = "arm64") -> None:
    """DeviceError if the emulators or the unpacked ARM system were changed."""
    check_qemu(name)
    store.check_hashes(_arm_folder(), name)


def run(
    command: Sequence[str], folder: Path, runner: Path = RUNNER, limit_s: float = LIMIT_S
) -> None:
    """Run the runner by this command on the job in a folder. DeviceError if it does not end well,
    or not within `limit_s`.

    A process that dies leaves no result; the last line it wrote says why.
    """
    environment = variables() | {"PYTHONDONTWRITEBYTECODE": "1"}
    if "qemu-aarch64" in Path(command[0]).name:
        environment.pop("PYTHONDONTWRITEBYTECODE")
    try:
        done = subprocess.run(
            [*command, str(runner), str(folder)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(f"the runner did not end within {limit_s:g} s") from error
    except OSError as error:
        raise store.not_started(command[0], error) from error
    if done.returncode or not (folder / "result.json").is_file():
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise DeviceError(f"the runner ended with {done.returncode}: {said[-1][:300]}")
