"""The tests of the kernels on the device, file by file, in parallel."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from benchmarks.evidence.command import parse
from benchmarks.evidence.tools import run_tool
from benchmarks.evidence.warpgroups import SWITCH
from benchmarks.steps import ROOT, LeftOutError, part

FOLDER = ROOT / "tests" / "kernels"
FILES = (
    "test_rows",
    "test_tiles",
    "test_warpgroups",
    "test_prepared_steps",
    "test_jax_calls",
)
MOST_WORKERS = 12  # each with a context of its own on the device
MOST_FAILED = 60  # what follows the failure of a device tells no more
SECONDS_OF_A_FILE = 70.0
# JAX would take three quarters of the device's memory, and each worker has a JAX.
ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
# These kernels run where they are asked for.
ENVIRONMENT_OF_FILE = {"test_warpgroups": {SWITCH: "1"}}
# Of a dry run: a few tests of each file.
SOME = "bfloat16-ring or equal_documents or time or uneven or compiled_loop or switch"


def pytest_command(file: str, core: str, small: bool, report: Path) -> list[str]:
    """Runs the tests of one file, in parallel; of a small run some of them."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [f"--maxfail={MOST_FAILED}", f"--junitxml={report}"]
    if small:
        # XLA cannot hand over the emulator's memory.
        command += ["-k", SOME, "--core", "cpu" if file == "test_jax_calls" else core]
    else:
        command += ["-n", str(min(MOST_WORKERS, os.cpu_count() or 1)), "--core", core]
    return [*command, str(FOLDER / f"{file}.py")]


def outcomes(report: Path) -> dict[str, Any]:
    """How many tests passed, failed and were skipped, and the names of the failed.

    Raises:
        AssertionError: no test ran, or one failed.
        LeftOutError: all were skipped: why.
    """
    suite = ElementTree.parse(report).getroot()
    cases = [*suite.iter("testcase")]
    failed = [case for case in cases if {each.tag for each in case} & {"failure", "error"}]
    skipped = [case for case in cases if case.find("skipped") is not None]
    names = [f"{case.get('classname')}.{case.get('name')}" for case in failed]
    found = {
        "passed": len(cases) - len(failed) - len(skipped),
        "failed": len(failed),
        "skipped": len(skipped),
        "failures": names,
    }
    if skipped and len(skipped) == len(cases):
        raise LeftOutError(reason_of(skipped[0]))
    return found


def reason_of(skipped: ElementTree.Element) -> str:
    """Why a test was skipped; of a whole file the text says it."""
    note = next(skipped.iter("skipped"))
    reason = re.search(r"Skipped: ([^'\"]*)", note.text or "")
    return reason[1] if reason else str(note.get("message"))


def run_file(file: str, core: str, small: bool) -> None:
    """The tests of one file, as a part."""
    with part(file) as found, tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = pytest_command(file, core, small, report)
        environment = {**ENVIRONMENT, **ENVIRONMENT_OF_FILE.get(file, {})}
        status, output = run_tool(command, SECONDS_OF_A_FILE, environment)
        print(output)
        assert report.exists(), f"pytest ended with status {status}: {output[-300:]!r}"
        found.update(outcomes(report))
        assert found["failed"] == 0, f"{found['failed']} failed: {found['failures'][0]}"
        assert found["passed"] > 0, f"no test ran: pytest ended with status {status}"


def main(words: Sequence[str] | None = None) -> None:
    """Runs all files."""
    arguments = parse(__doc__ or "", words)
    for file in FILES:
        run_file(file, arguments.core, arguments.small)


if __name__ == "__main__":
    main()
