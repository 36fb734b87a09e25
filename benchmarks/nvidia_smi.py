"""What the driver's own tool says of the first GPU."""

from __future__ import annotations

import csv
import io
import subprocess

from benchmarks.steps import LeftOutError

SECONDS = 20  # that it may take


def query(*fields: str) -> dict[str, str]:
    """Fields by the names that `nvidia-smi --help-query-gpu` lists.

    Raises:
        LeftOutError: it is not there, fails, or says nothing that can be read.
    """
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise LeftOutError(f"nvidia-smi: {error}") from error
    values = next(csv.reader(io.StringIO(answer), skipinitialspace=True), [])
    if len(values) != len(fields):
        raise LeftOutError(f"nvidia-smi says nothing that can be read: {answer[:80]!r}")
    return dict(zip(fields, values, strict=True))
