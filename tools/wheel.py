"""Builds a wheel to give away: `make wheel`, for the Python that runs it.

It holds the op's libraries for every supported release of TensorFlow, each built in an
environment that has that release, and the kernels once. auditwheel then names the oldest
glibc that it runs with, and checks that TensorFlow and CUDA are not copied into it.

    python3.12 -m tools.wheel --output dist
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.checkout import ROOT, copy_sources
from tools.version_matrix import TENSORFLOWS

# One environment for each Python: what is built is kept for the next time.
WORK = ROOT / "build" / "wheel" / f"{sys.implementation.cache_tag}"

# What a user's TensorFlow and driver bring. The runtime of CUDA is linked in.
NOT_OURS = ("libtensorflow_*.so.*", "libcud*.so.*", "libnv*.so.*")


def run(*command: str | Path, **further: str) -> None:
    """Runs a command without our own paths, and ends the program if it fails."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    variables["PATH"] = f"{WORK / 'tools' / 'bin'}:{variables['PATH']}"
    subprocess.run(command, env={**variables, **further}, check=True)


def environment(name: str, *packages: str) -> Path:
    """The Python of an environment with some packages, made at the first call."""
    folder = WORK / name
    made = folder / "made.json"
    python = folder / "bin" / "python"
    if not made.exists() or json.loads(made.read_text()) != [*packages]:
        run(sys.executable, "-m", "venv", "--clear", folder)
        pip = (python, "-m", "pip", "install", "--quiet", "--no-compile")
        run(*pip, "--upgrade", "pip>=25.1")
        run(*pip, *packages)
        made.write_text(json.dumps(packages))
    return python


def build(folder: Path) -> Path:
    """The wheel as the compiler of this system makes it."""
    groups = [f"--group={ROOT}/pyproject.toml:{name}" for name in ("build", "wheel")]
    python = environment("tools", *groups)
    pythons = [environment(f"tf{one}", f"tensorflow=={one}.*") for one in TENSORFLOWS]
    shutil.rmtree(WORK / "sources", ignore_errors=True)
    sources = copy_sources(WORK / "sources")
    settings = WORK / "distutils.cfg"
    settings.write_text(f"[build_ext]\nbuild_temp = {WORK / 'cmake'}\n")
    shutil.rmtree(folder, ignore_errors=True)
    run(
        *(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", folder, sources),
        NEGATIVE_COSINE_TENSORFLOWS=":".join(map(str, pythons)),
        DIST_EXTRA_CONFIG=str(settings),
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def repair(wheel: Path, output: Path) -> Path:
    """The wheel under the name of the oldest system that it runs on."""
    folder = wheel.parent / "repaired"
    excluded = [option for name in NOT_OURS for option in ("--exclude", name)]
    auditwheel = WORK / "tools" / "bin" / "auditwheel"
    run(auditwheel, "repair", *excluded, "--wheel-dir", folder, wheel)
    (repaired,) = folder.glob("*.whl")
    if copied := libraries_of_others(repaired):
        raise SystemExit(
            f"{repaired.name} holds libraries of others: {', '.join(copied)}; name them in "
            "NOT_OURS of tools/wheel.py, or link them statically"
        )
    output.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(repaired, output / repaired.name))


def libraries_of_others(wheel: Path) -> list[str]:
    """What auditwheel copied into a wheel."""
    names = zipfile.ZipFile(wheel).namelist()
    return [
        name for name in names if not name.startswith("negative_cosine") or ".libs/" in name
    ]


def for_this_python(wheels: Sequence[Path]) -> list[Path]:
    """Those of some wheels that the Python which runs can install."""
    this = sys.version_info
    found = [wheel for wheel in wheels if f"-cp{this[0]}{this[1]}-" in wheel.name]
    if not found:
        raise SystemExit(
            f"none of the wheels is for Python {this[0]}.{this[1]}: make wheel PYTHON="
            f"python{this[0]}.{this[1]}"
        )
    return found


def main() -> None:
    """Builds the wheel, and prints its path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="default: dist")
    arguments = parser.parse_args()
    print(repair(build(WORK / "built"), arguments.output))


if __name__ == "__main__":
    main()
