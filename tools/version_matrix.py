"""Builds and tests the package with several releases of Python and TensorFlow.

`make versions` does it for every Python 3.10 to 3.13 on PATH, and once more with the lowest
releases that pyproject.toml admits. Each pair has a virtual environment of its own, which
is removed again, and a row of version_matrix.csv. For some pairs alone:

    python -m tools.version_matrix --python python3.12 --tensorflow 2.21
    python -m tools.version_matrix --python python3.10 --lowest
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tests.support.checkout import ROOT, copy_sources

WORK = ROOT / "build" / "versions"
RESULTS = Path(__file__).with_name("version_matrix.csv")
COLUMNS = (
    "python",
    "tensorflow",
    "keras",
    "numpy",
    "compiler",
    "parts",
    "passed",
    "failed",
    "skipped",
)
PYTHONS = ("python3.10", "python3.11", "python3.12", "python3.13")
TENSORFLOWS = ("2.20", "2.21")

# A part of the suite that takes a minute or two and meets every binding.
TESTS = (
    "loss/test_parity.py",
    "loss/test_gradients.py",
    "sampler/test_sampler.py",
    "loss/test_errors.py",
    "cpu/test_core.py",
    "tensorflow/test_compiled.py",
    "keras/test_keras_layer.py",
    "keras/test_keras_inference.py",
    "keras/test_keras_metrics.py",
    "keras/test_keras_masks.py",
)
SELECTION = "not graph and not every_odd_size"
TEST_TOOLS = ("pytest", "hypothesis", "scipy")

FACTS = """
import json, platform, sys
import keras, numpy, tensorflow
import negative_cosine
from negative_cosine._loader import native_library, xla_problem
assert negative_cosine.__file__.startswith(sys.prefix), negative_cosine.__file__
library = native_library()
assert library.ops is not None, library.problem
print(json.dumps({
    "python": platform.python_version(),
    "tensorflow": tensorflow.__version__,
    "keras": keras.__version__,
    "numpy": numpy.__version__,
    "compiler": library.build_info["compiler"],
    "parts": "CPU, without XLA: " + xla_problem() if xla_problem() else "CPU, XLA",
}))
"""


class Pair(NamedTuple):
    """An interpreter, and the releases that pip is held to beside it."""

    python: str
    constraints: tuple[str, ...]

    @property
    def name(self) -> str:
        """A name for its folder."""
        words = (Path(self.python).name, *self.constraints)
        return re.sub(r"[^\w.]+", "-", "-".join(words))


def lowest_constraints(pyproject: str) -> tuple[str, ...]:
    """The lower bounds of what the package requires, as exact releases."""
    (group,) = re.findall(r"^requirements = \[(.*)\]$", pyproject, re.MULTILINE)
    bounds = re.findall(r'"([\w-]+)>=([\d.]+)', group)
    return tuple(f"{name}=={version}.0" for name, version in bounds)


def run(*command: str | Path, capture: bool = False, **further: str) -> str:
    """Runs a command without our own PYTHONPATH, and ends the program if it fails."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    variables |= {"NEGATIVE_COSINE_CUDA": "0", "CUDA_VISIBLE_DEVICES": "", **further}
    variables["PATH"] = f"{Path(command[0]).parent}:{variables['PATH']}"
    result = subprocess.run(
        command,
        cwd=ROOT,
        env=variables,
        stdout=subprocess.PIPE if capture else None,
        text=True,
        check=True,
    )
    return result.stdout or ""


def build(pair: Pair, environment: Path, sources: Path) -> None:
    """Makes the virtual environment and installs the package into it."""
    run(pair.python, "-m", "venv", "--clear", environment)
    python = environment / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--no-compile")
    run(*pip, "--upgrade", "pip>=25.1")
    constraints = environment / "constraints.txt"
    constraints.write_text("\n".join(pair.constraints))
    groups = [f"{ROOT}/pyproject.toml:{name}" for name in ("build", "requirements")]
    options = [option for group in groups for option in ("--group", group)]
    run(*pip, "--constraint", constraints, *options, *TEST_TOOLS)
    # Configured anew, in the folder of the pair before: the core, which knows neither
    # Python nor TensorFlow, is compiled once.
    cmake = WORK / "cmake"
    (cmake / "CMakeCache.txt").unlink(missing_ok=True)
    settings = environment / "distutils.cfg"
    settings.write_text(f"[build_ext]\nbuild_temp = {cmake}\n")
    run(*pip, "--no-build-isolation", sources, DIST_EXTRA_CONFIG=str(settings))


def run_tests(environment: Path) -> dict[str, int]:
    """How many tests passed, failed and were skipped."""
    report = environment / "report.xml"
    files = [f"tests/{name}" for name in TESTS]
    python = environment / "bin" / "python"
    options = ("-q", "-p", "no:cacheprovider", "-k", SELECTION)
    try:
        run(python, "-m", "pytest", *options, f"--junitxml={report}", *files)
    except subprocess.CalledProcessError as error:
        if error.returncode != 1:  # pytest's "some tests failed"
            raise
    return counts(report.read_text())


def counts(report: str) -> dict[str, int]:
    """The counts of a report in JUnit's format."""
    (suite,) = ElementTree.fromstring(report).iter("testsuite")
    failed = int(suite.attrib["failures"]) + int(suite.attrib["errors"])
    skipped = int(suite.attrib["skipped"])
    passed = int(suite.attrib["tests"]) - failed - skipped
    return {"passed": passed, "failed": failed, "skipped": skipped}


def try_pair(pair: Pair, sources: Path) -> dict[str, str]:
    """The row of one pair."""
    environment = WORK / pair.name
    try:
        build(pair, environment, sources)
        facts = json.loads(run(environment / "bin" / "python", "-c", FACTS, capture=True))
        return {**facts, **{k: str(v) for k, v in run_tests(environment).items()}}
    finally:
        shutil.rmtree(environment, ignore_errors=True)


def with_row(rows: Sequence[dict[str, str]], row: dict[str, str]) -> list[dict[str, str]]:
    """The rows with one added or, for the same releases, replaced."""

    def key(one: dict[str, str]) -> list[tuple[int, ...]]:
        releases = (one[name] for name in COLUMNS[:4])
        return [tuple(map(int, re.findall(r"\d+", release))) for release in releases]

    others = [other for other in rows if key(other) != key(row)]
    return sorted([*others, row], key=key)


def recorded() -> list[dict[str, str]]:
    """The rows that were written so far."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return [*csv.DictReader(file)]


def record(row: dict[str, str]) -> None:
    """Writes a row into the results."""
    rows = recorded()
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(with_row(rows, row))


def works(python: str) -> bool:
    """Whether a command runs a Python."""
    if shutil.which(python) is None:
        return False
    return subprocess.run([python, "--version"], capture_output=True).returncode == 0


def pairs(arguments: argparse.Namespace) -> Iterator[Pair]:
    """The pairs that are asked for."""
    pythons = arguments.python or [python for python in PYTHONS if works(python)]
    if not pythons:
        raise SystemExit(f"none of {', '.join(PYTHONS)} is on PATH: name one by --python")
    if arguments.lowest or not arguments.tensorflow:
        lowest = lowest_constraints((ROOT / "pyproject.toml").read_text())
        yield Pair(pythons[0], lowest)
    if arguments.lowest:
        return
    for python in pythons:
        for release in arguments.tensorflow or TENSORFLOWS:
            yield Pair(python, (f"tensorflow=={release}.*",))


def main() -> None:
    """Tests each pair; ends with an error if any did not build, or failed a test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", nargs="+", help=f"default: those found of {PYTHONS}")
    parser.add_argument("--tensorflow", nargs="+", help=f"default: {TENSORFLOWS}")
    parser.add_argument("--lowest", action="store_true", help="the lowest releases alone")
    arguments = parser.parse_args()
    sources = WORK / "sources"
    shutil.rmtree(sources, ignore_errors=True)
    copy_sources(sources)
    failed = []
    for pair in pairs(arguments):
        print(f"== {pair.name}", flush=True)
        try:
            row = try_pair(pair, sources)
        except subprocess.CalledProcessError as error:
            print(error, file=sys.stderr)
            failed.append(pair.name)
            continue
        print(row, flush=True)
        record(row)
        if row["failed"] != "0":
            failed.append(pair.name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
