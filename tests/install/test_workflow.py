"""The workflow of a public forge: what its jobs run is there."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.support.checkout import ROOT
from tools import version_matrix

WORKFLOW: dict[str, Any] = yaml.safe_load(
    (ROOT / ".github" / "workflows" / "ci.yml").read_text()
)
JOBS: dict[str, Any] = WORKFLOW["jobs"]


def commands(job: str) -> list[str]:
    """The shell lines of a job."""
    return [step["run"] for step in JOBS[job]["steps"] if "run" in step]


def test_there_is_a_job_for_each_way_to_build_and_check() -> None:
    assert set(JOBS) == {
        "lint",
        "test",
        "versions",
        "lowest-versions",
        "python-only",
        "cuda",
        "slow-tests",
    }


def test_it_may_only_read() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert not [name for name, job in JOBS.items() if "permissions" in job]


@pytest.mark.parametrize("job", JOBS)
def test_what_a_job_names_exists(job: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert JOBS[job]["steps"][0]["uses"].startswith("actions/checkout@")
    assert commands(job)
    for command in commands(job):
        assert set(re.findall(r"\bmake ([\w-]+)", command)) <= targets
        for module in re.findall(r"python -m (tools\.\S+)", command):
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


@pytest.mark.parametrize("job", ["python-only", "cuda"])
def test_the_variables_of_a_build_are_those_of_setup(job: str) -> None:
    described = (ROOT / "setup.py").read_text()
    for name in JOBS[job]["env"]:
        assert re.search(rf"^    {name} ", described, re.MULTILINE)


def test_the_pairs_are_those_of_the_documents_table() -> None:
    matrix = JOBS["versions"]["strategy"]["matrix"]
    assert [f"python{python}" for python in matrix["python"]] == [*version_matrix.PYTHONS]
    assert matrix["tensorflow"] == [*version_matrix.TENSORFLOWS]
