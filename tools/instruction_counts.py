"""The instructions of a training step: counted, recorded, compared.

``make instruction-counts`` records them anew, after a change that is worth its price.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from pathlib import Path

DRIVER = Path(__file__).parent.parent / "build" / "instructions" / "driver"
RECORD = Path(__file__).with_name("instruction_counts.json")
MOST_GROWTH = 0.10


def run_driver(*arguments: str) -> str:
    """What the driver prints, with the instruction set that most machines have."""
    if not DRIVER.is_file():
        raise FileNotFoundError(f"{DRIVER} is not built: run make instructions")
    environment = {**os.environ, "NEGATIVE_COSINE_MAX_ISA": "avx2"}
    return subprocess.run(
        [DRIVER, *arguments], env=environment, check=True, capture_output=True, text=True
    ).stdout


def code_that_counts() -> str:
    """The compiler and the instruction set, which the counts depend on."""
    return run_driver("--about").strip()


def count(*cases: str) -> dict[str, int]:
    """The instructions of one training step of each case; of all if none is named."""
    lines = (line.split() for line in run_driver(*cases).splitlines())
    return {name: int(counted) for name, counted in lines}


def recorded_code() -> str:
    """The compiler and the instruction set that the record is of."""
    return str(json.loads(RECORD.read_text())["code"])


def recorded_counts() -> dict[str, int]:
    """The record, by case."""
    counts: dict[str, int] = json.loads(RECORD.read_text())["instructions"]
    return counts


def growth_problem(case: str, counted: int, recorded: int) -> str:
    """What is wrong with a count; "" if it grew by no more than it may."""
    growth = counted / recorded - 1
    if growth <= MOST_GROWTH:
        return ""
    return (
        f"{case} takes {counted} instructions, {growth:.1%} more than the {recorded} in "
        f"{RECORD.name}: make it cheaper, or record its price with make instruction-counts"
    )


def record() -> None:
    """Writes the record."""
    content = {"code": code_that_counts(), "instructions": count()}
    RECORD.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    # No argument is taken, so that --help does not record.
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    record()
