"""What Nsight Compute counts of each family's kernels: gpu_ncu.csv.

ncu names hundreds of metrics, which change from one release to the next; whole sections
are asked for, and the columns are found among them by patterns. What is not there stays
empty.
"""

from __future__ import annotations

import csv
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.evidence.command import NO_DEVICE, load_core, parse
from benchmarks.evidence.device import facts
from benchmarks.evidence.families import FAMILIES
from benchmarks.evidence.tables import Table
from benchmarks.evidence.tools import find_tool, run_tool
from benchmarks.steps import LeftOutError, part

FILE = "gpu_ncu.csv"

SECTIONS = (
    "SpeedOfLight",
    "ComputeWorkloadAnalysis",
    "MemoryWorkloadAnalysis",
    "MemoryWorkloadAnalysis_Tables",
    "SchedulerStats",
    "WarpStateStats",
    "Occupancy",
    "LaunchStats",
)
# Of a column: the pattern of the metrics that it may be, of which the largest counts.
METRICS = {
    "duration_us": r"gpu__time_duration\.sum",
    "tensor_pipe_percent": r"sm__\w*tensor\w*\.avg\.pct_of_peak_sustained_\w+",
    "shared_wavefronts": r"\w*data_pipe_lsu_wavefronts_mem_shared\.sum",
    "l2_percent": r"lts__t_(sectors|bytes)\.avg\.pct_of_peak_sustained_elapsed"
    r"|lts__throughput\.avg\.pct_of_peak_sustained_elapsed",
    "l2_bytes_per_second": r"lts__t_bytes\.sum\.per_second",
    "memory_percent": r"(gpu__)?dram_+throughput\.avg\.pct_of_peak_sustained_elapsed",
    "memory_bytes_per_second": r"dram__bytes\.sum\.per_second",
    "issue_slots_percent": r"smsp__issue_active\.avg\.pct\w*"
    r"|smsp__issue_active\.avg\.pct_of_peak_sustained_active"
    r"|sm__inst_issued\.avg\.pct_of_peak_sustained_active",
    "occupancy_percent": r"sm__warps_active\.avg\.pct_of_peak_sustained_active",
    "registers": r"launch__registers_per_thread",
    "waves": r"launch__waves_per_multiprocessor",
}
STALL = r"smsp__average_warps?_\w*issue_stalled_(\w+?)_per_issue_active\.ratio"
NO_STALL = {"selected", "not_selected"}  # a warp that issues, or might
STALLS = tuple(f"stall_{number}" for number in (1, 2, 3))
SIZES = ("source", "dtype", "batch_size", "num_negatives", "dim")
COLUMNS = ("family", *SIZES, "kernel", *METRICS, *STALLS)

# To what a column's unit is brought.
UNITS = {"nsecond": 1e-3, "usecond": 1.0, "msecond": 1e3, "second": 1e6}
UNITS |= {"ns": 1e-3, "us": 1.0, "ms": 1e3, "s": 1e6}
PREFIXES = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
SECONDS_OF_A_FAMILY = 40.0


def command(ncu: str, family: str, log: Path, from_start: bool) -> list[str]:
    """Looks at a step's launches, and leaves clocks and caches as they are."""
    sections = [word for section in SECTIONS for word in ("--section", section)]
    options = ["--csv", "--page", "raw", "--print-units", "base", "--log-file", str(log)]
    options += ["--clock-control", "none", "--cache-control", "none"]
    options += ["--profile-from-start", "on" if from_start else "off"]
    program = [sys.executable, "-m", "benchmarks.evidence.one_step", family]
    return [ncu, *options, *sections, *program]


def profile(ncu: str, family: str) -> list[dict[str, str]]:
    """The launches of the family's second step, as ncu has them.

    The program says where it begins. Where ncu does not hear that, it looks at both steps,
    and the second half is meant.

    Raises:
        AssertionError: ncu failed, or printed nothing that can be read.
    """
    try:
        return launches(ncu, family, from_start=False)
    except AssertionError as error:
        print(f"{error}\nAgain, from the start:")
        rows = launches(ncu, family, from_start=True)
        return rows[len(rows) // 2 :]


def launches(ncu: str, family: str, from_start: bool) -> list[dict[str, str]]:
    """The rows of ncu's table, a launch each, in the units of its second row."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "ncu.csv"
        words = command(ncu, family, log, from_start)
        status, output = run_tool(words, SECONDS_OF_A_FAMILY)
        text = log.read_text(errors="replace") if log.exists() else ""
    said = (text + output)[-500:]
    assert status == 0, f"ncu ended with status {status}: {said}"
    lines = text.splitlines()
    start = next((n for n, line in enumerate(lines) if line.startswith('"ID"')), None)
    assert start is not None, f"ncu printed no table: {said}"
    units, *rows = csv.DictReader(lines[start:])
    assert rows, f"ncu saw no launch: {said}"
    return [{name: with_unit(row[name], units[name]) for name in row} for row in rows]


def with_unit(value: str, unit: str) -> str:
    """A number in microseconds, or in units without a prefix; anything else as it is."""
    try:
        number = float(value.replace(",", ""))
    except ValueError:
        return value
    if unit in UNITS:
        return repr(number * UNITS[unit])
    return repr(number * (PREFIXES.get(unit[:1], 1.0) if "byte" in unit else 1.0))


def figures(row: Mapping[str, str]) -> dict[str, Any]:
    """The columns of a launch."""
    found: dict[str, Any] = {"kernel": short_name(row.get("Kernel Name", ""))}
    for column, pattern in METRICS.items():
        numbers = [float(row[name]) for name in row if is_number(row, name, pattern)]
        found[column] = round(max(numbers), 3) if numbers else ""
    return found | dict(zip(STALLS, stalls(row), strict=False))


def is_number(row: Mapping[str, str], name: str, pattern: str) -> bool:
    """Whether a metric is one that is looked for, and has a value."""
    return bool(re.fullmatch(pattern, name) and re.fullmatch(r"[\d.e+-]+", row[name]))


def stalls(row: Mapping[str, str]) -> Iterator[str]:
    """The reasons for which warps waited longest, with the cycles of an instruction."""
    cycles = {
        match[1]: float(row[name])
        for name in row
        if (match := re.fullmatch(STALL, name)) and is_number(row, name, STALL)
        if not match[1].endswith("_not_issued")  # a part of the one without these words
    }
    reasons = sorted(cycles.keys() - NO_STALL, key=lambda reason: -cycles[reason])
    for reason in reasons[: len(STALLS)]:
        yield f"{reason} {cycles[reason]:.2f}"


def short_name(kernel: str) -> str:
    """A kernel's name and template arguments, without namespaces and parameters."""
    kernel = re.sub(r"(\(anonymous namespace\)|<?\bunnamed>)::", "", kernel)
    name = re.match(r"(?:void )?([\w:]+(?:<.*>(?=\())?)", kernel)
    return re.sub(r"\b\w+::", "", name[1] if name else kernel)


def main(words: Sequence[str] | None = None) -> None:
    """Profiles each family, as a part."""
    arguments = parse(__doc__ or "", words)
    table = Table(arguments.output / FILE, COLUMNS, facts(load_core(arguments.core)))
    if arguments.core == "emulated":
        with part("all families"):
            raise LeftOutError(NO_DEVICE)
        return
    for family, run in FAMILIES.items():
        with part(family) as found:
            rows = profile(find_tool("ncu", "Nsight Compute"), family)
            sizes = {name: run.columns[name] for name in SIZES}
            for row in rows:
                table.add({"family": family, **sizes, **figures(row)})
            found.update(launches=len(rows))


if __name__ == "__main__":
    main()
