"""What a run was made on: for every row of its results. It imports no TensorFlow."""

from __future__ import annotations

from typing import Any

from benchmarks import machine, nvidia_smi
from benchmarks.steps import LeftOutError


def gpu_and_driver() -> dict[str, str]:
    """The GPU's name and the driver's version, or why they are not known."""
    try:
        found = nvidia_smi.query("name", "driver_version")
    except LeftOutError as error:
        return {"device": "not known", "driver": f"not known: {error}"}
    return {"device": found["name"], "driver": found["driver_version"]}


def facts(dry_run: bool, commit_given: str | None) -> dict[str, Any]:
    """What every row says of the run."""
    on_cpu = {"device": machine.cpu_name(), "driver": ""}
    return {
        **(on_cpu if dry_run else gpu_and_driver()),
        "tensorflow": machine.version("tensorflow"),
        "package": machine.version("negative-cosine"),
        "commit": commit_given or machine.commit() or "not known",
        "dry_run": dry_run,
    }
