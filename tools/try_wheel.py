"""Tries wheels as a user meets them: `make try-wheel`, for those of this Python in dist.

Each is installed into an empty environment once for each release of TensorFlow that it has
libraries for. There README's code runs, outside the checkout, and a part of the tests.

    python3.12 -m tools.try_wheel dist/*.whl
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.checkout import ROOT
from tests.support.documents import python_blocks
from tools.version_matrix import SELECTION, TENSORFLOWS, TEST_TOOLS
from tools.wheel import for_this_python

TESTS = ("loss/test_parity.py", "loss/test_gradients.py")

LOADED = """
import sys
from negative_cosine import __file__ as package
from negative_cosine._loader import native_library, xla_problem
assert package.startswith(sys.prefix), package
library = native_library()
assert library.ops is not None, library.problem
assert not xla_problem(), xla_problem()
print("opened", library.path.name)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints, which is started without our own paths."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    variables["CUDA_VISIBLE_DEVICES"] = ""
    result = subprocess.run(
        command, cwd=cwd, env=variables, stdout=subprocess.PIPE, text=True
    )
    if result.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{result.stdout}")
    return result.stdout


def install(folder: Path, *packages: str) -> Path:
    """The Python of an environment with nothing but some packages, and what they need."""
    run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--no-compile")
    run(*pip, *packages, cwd=folder)
    return python


def try_release(wheel: Path, release: str, folder: Path) -> str:
    """Tries a wheel with one release; returns the name of the library that was opened."""
    python = install(folder, str(wheel.resolve()), f"tensorflow=={release}.*")
    opened = run(python, "-c", LOADED, cwd=folder).split()[-1]
    for code in python_blocks((ROOT / "README.md").read_text()):
        run(python, "-W", "error::RuntimeWarning", "-c", code, cwd=folder)
    print(run(python, "-m", "negative_cosine", cwd=folder))
    return opened


def run_tests(folder: Path) -> None:
    """Runs the part of the tests with the environment of a folder."""
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", *TEST_TOOLS, cwd=folder)
    options = ("-q", "-p", "no:cacheprovider", "-k", SELECTION)
    files = [f"tests/{name}" for name in TESTS]
    print(run(python, "-m", "pytest", *options, *files, cwd=ROOT).splitlines()[-1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Tries each wheel with each release of TensorFlow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", nargs="+", type=Path)
    for wheel in for_this_python(parser.parse_args(arguments).wheel):
        for release in TENSORFLOWS:
            with tempfile.TemporaryDirectory() as name:
                opened = try_release(wheel, release, Path(name))
                print(f"{wheel.name} with TensorFlow {release}: {opened}")
                run_tests(Path(name))


if __name__ == "__main__":
    main()
