"""compute-sanitizer over each family of kernels: addresses, races, reads, barriers."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from benchmarks.evidence.command import NO_DEVICE, parse
from benchmarks.evidence.tools import find_tool, run_tool
from benchmarks.steps import LeftOutError, part

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
AT_ONCE = 2  # those that matter most first
FOUND = 9  # the exit status when a tool has found something
# What it says of a device, a driver or a virtual machine that it cannot watch.
REFUSALS = ("Device not supported", "not supported on this", "Unable to find injection")
LONGEST = 20_000  # characters of a tool's words, in the log
# Of the watched program, which ends by itself, and of the tool around it.
SECONDS_WATCHED, SECONDS_OF_A_TOOL = 30.0, 48.0


def command(sanitizer: str, tool: str, seconds: float) -> list[str]:
    """Watches each family of kernels, as far as it comes in this many seconds."""
    program = [sys.executable, "-m", "benchmarks.evidence.every_kernel"]
    options = ["--tool", tool, "--error-exitcode", str(FOUND)]
    return [sanitizer, *options, *program, "--seconds", str(seconds)]


def verdict(output: str, status: int) -> dict[str, str]:
    """What a tool watched, and that it found nothing.

    Raises:
        LeftOutError: it refuses the device.
        AssertionError: it found something, or did not come to its end.
    """
    refused = [line for line in output.splitlines() if any(r in line for r in REFUSALS)]
    if refused:
        raise LeftOutError(f"skipped, because compute-sanitizer says: {refused[0].strip()}")
    summaries = [line for line in output.splitlines() if "SUMMARY" in line]
    assert status == 0, f"exit status {status}: {output[-2000:]}"
    assert summaries, f"no summary, and so no result: {output[-2000:]}"
    counts = re.findall(r"(\d+) (?:error|warning|hazard)", summaries[-1])
    assert counts, f"a summary without a count: {summaries[-1]}"
    assert not any(map(int, counts)), summaries[-1]
    watched = re.findall(r"^\d+ of \d+ runs$", output, re.MULTILINE)
    return {"summary": summaries[-1].strip("= "), "watched": ", ".join(watched)}


def watch(tool: str) -> None:
    """Runs one tool over the program, as a part."""
    with part(tool) as found:
        sanitizer = find_tool("compute-sanitizer", "CUDA's toolkit")
        words = command(sanitizer, tool, SECONDS_WATCHED)
        status, output = run_tool(words, SECONDS_OF_A_TOOL)
        print(output[-LONGEST:])
        found.update(verdict(output, status))


def main(words: Sequence[str] | None = None) -> None:
    """Runs the tools, some at the same time: each mostly waits for the device."""
    arguments = parse(__doc__ or "", words)
    if arguments.core == "emulated":
        with part("all tools"):
            raise LeftOutError(NO_DEVICE)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(watch, TOOLS))


if __name__ == "__main__":
    main()
