"""compute-sanitizer over each family of kernels: addresses, races, reads, barriers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.evidence.command import parse
from benchmarks.evidence.tools import find_tool, run_tool
from benchmarks.steps import LeftOutError, part

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
PROGRAM = [sys.executable, "-m", "benchmarks.evidence.every_kernel"]
FOUND = 9  # the exit status when a tool has found something
# What it says of a device, a driver or a virtual machine that it cannot watch.
REFUSALS = ("Device not supported", "not supported on this", "Unable to find injection")
LONGEST = 2000
SECONDS_OF_A_TOOL, SECONDS_OF_A_SMALL_RUN = 90.0, 3.0


def verdict(output: str, status: int) -> dict[str, str]:
    """What a tool found.

    Raises:
        LeftOutError: it refuses the device.
        AssertionError: it found something, or did not come to its end.
    """
    refused = [line for line in output.splitlines() if any(r in line for r in REFUSALS)]
    if refused:
        raise LeftOutError(f"skipped, because compute-sanitizer says: {refused[0].strip()}")
    summary = [line for line in output.splitlines() if "SUMMARY" in line]
    assert status == 0, f"exit status {status}: {output[-LONGEST:]}"
    assert summary, f"no summary, and so no result: {output[-LONGEST:]}"
    return {"summary": summary[-1].strip("= ")}


def watch(tool: str, limit: float) -> None:
    """Runs one tool over the program, as a part."""
    with part(tool) as found:
        sanitizer = find_tool("compute-sanitizer", "CUDA's toolkit")
        options = ["--tool", tool, "--error-exitcode", str(FOUND)]
        status, output = run_tool([sanitizer, *options, *PROGRAM], limit)
        print(output[-LONGEST:])
        found.update(verdict(output, status))


def main(words: Sequence[str] | None = None) -> None:
    """Runs all tools at the same time: each waits for the device most of the time."""
    arguments = parse(__doc__ or "", words)
    limit = SECONDS_OF_A_SMALL_RUN if arguments.small else SECONDS_OF_A_TOOL
    with ThreadPoolExecutor(len(TOOLS)) as pool:
        list(pool.map(lambda tool: watch(tool, limit), TOOLS))


if __name__ == "__main__":
    main()
