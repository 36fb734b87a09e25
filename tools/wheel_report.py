"""Writes what each part of a wheel takes, in bytes and in time: `make wheel-report`.

The sizes are those in the wheel that `make wheel` put into dist. The seconds are those of
the compiler's jobs, which Ninja noted: as many run side by side as there are processors.

    python3.11 -m tools.wheel_report dist/*.whl
"""

from __future__ import annotations

import argparse
import csv
import re
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tools.wheel import WORK, for_this_python

RESULTS = Path(__file__).with_name("wheel.csv")
COLUMNS = ("part", "on the disk, kB", "in the wheel, kB", "compiler, s")


class Part(NamedTuple):
    """A part of the wheel: its files, and what Ninja makes for it."""

    name: str
    files: str
    jobs: str


PARTS = (
    Part(
        "kernels for the CPU and CUDA", r"libnegative_cosine_core\.so", r"core|shared_core"
    ),
    Part("NumPy module", r"_core\..*\.so$", "python_core"),
    Part("NumPy module for CUDA", r"_cuda_core\..*\.so$", "python_cuda_core"),
    Part("op, TensorFlow {}", r"_negative_cosine_ops\.tf{}\.", "ops"),
    Part("compiled functions, TensorFlow {}", r"_negative_cosine_xla\.tf{}\.", "xla_calls"),
    Part("Python and the description", r"(?!.*\.so$).*", "-"),
)


def parts(releases: Iterable[str]) -> list[Part]:
    """The parts, those for TensorFlow once for each release."""
    found: list[Part] = []
    for part in PARTS:
        several = "{}" in part.name
        for release in releases if several else [""]:
            name, files = part.name.format(release), part.files.format(re.escape(release))
            found.append(Part(name, files, part.jobs))
    return found


def seconds(log: str) -> dict[str, float]:
    """The time of each target's jobs, by the target's name, from Ninja's log."""
    jobs = {}
    for line in log.splitlines()[1:]:
        start, end, _, output, _ = line.split("\t")
        if match := re.match(r"CMakeFiles/(\w+)\.dir/", output):
            jobs[output] = (match[1], (int(end) - int(start)) / 1000)
    total: dict[str, float] = {}
    for target, duration in jobs.values():
        total[target] = total.get(target, 0.0) + duration
    return total


def time_of(part: Part, targets: dict[str, float]) -> float:
    """The seconds for a part: kernels have a target for each kind of them."""
    kernels = r"(?:cuda_)?core\w*|cuda_(?:rows|tiles|warpgroups)\w*|shared_core"
    pattern = kernels if part.jobs.startswith("core|") else re.escape(part.jobs)
    return sum(spent for name, spent in targets.items() if re.fullmatch(pattern, name))


def rows(wheel: zipfile.ZipFile, targets: dict[str, float]) -> list[dict[str, str]]:
    """The table of a wheel."""
    held = [one for one in wheel.infolist() if not one.is_dir()]
    names = " ".join(one.filename for one in held)
    releases = sorted({*re.findall(r"_ops\.tf([\d.]+)\.so", names)})
    table = []
    for part in parts(releases):
        files = [one for one in held if re.match(part.files, Path(one.filename).name)]
        if files:
            table.append(row(part.name, files, time_of(part, targets)))
    table.append(row("in all", held, sum(float(one["compiler, s"]) for one in table)))
    return table


def row(name: str, files: Sequence[zipfile.ZipInfo], spent: float) -> dict[str, str]:
    """A line of the table."""
    sizes = (sum(f.file_size for f in files), sum(f.compress_size for f in files))
    kilobytes = [f"{size / 1e3:.0f}" for size in sizes]
    return dict(zip(COLUMNS, [name, *kilobytes, f"{spent:.0f}"], strict=True))


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, default=RESULTS, help="the CSV to write")
    arguments = parser.parse_args()
    wheel, *_ = for_this_python(arguments.wheel)
    log = (WORK / "cmake" / ".ninja_log").read_text()
    with arguments.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows(zipfile.ZipFile(wheel), seconds(log)))


if __name__ == "__main__":
    main()
