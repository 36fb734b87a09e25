"""The workflows of a public forge: what their jobs run is there."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.support.checkout import ROOT
from tools import version_matrix


def workflow(name: str) -> dict[str, Any]:
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text()
    return dict(yaml.safe_load(text))


WORKFLOWS = {name: workflow(name) for name in ("ci", "release")}
JOBS: dict[str, Any] = WORKFLOWS["ci"]["jobs"]
RELEASE: dict[str, Any] = WORKFLOWS["release"]["jobs"]
ALL_JOBS = {**JOBS, **RELEASE}


def commands(job: str) -> list[str]:
    """The shell lines of a job."""
    return [step["run"] for step in ALL_JOBS[job]["steps"] if "run" in step]


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


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_only_read(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}
    jobs = WORKFLOWS[name]["jobs"]
    assert not [name for name, job in jobs.items() if "permissions" in job]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_is_one_by_the_forges_schema(name: str) -> None:
    pytest.importorskip("check_jsonschema")
    command = ("check_jsonschema", "--builtin-schema", "vendor.github-workflows")
    path = ROOT / ".github" / "workflows" / f"{name}.yml"
    checked = subprocess.run(
        [sys.executable, "-m", *command, str(path)], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("job", ALL_JOBS)
def test_what_a_job_names_exists(job: str) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert ALL_JOBS[job]["steps"][0]["uses"].startswith("actions/checkout@")
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


# --- The release --------------------------------------------------------------------------


def test_a_release_is_built_tried_and_described_by_the_makefile() -> None:
    makes = {job: [one for one in commands(job) if "make " in one] for job in RELEASE}
    assert makes == {
        "wheel": ["make wheel PYTHON=python${{ matrix.python }}"],
        "try": ["make try-wheel PYTHON=python"],
        "files": ["make release-files"],
    }


def test_a_release_has_a_wheel_for_each_supported_python() -> None:
    for job in ("wheel", "try"):
        pythons = RELEASE[job]["strategy"]["matrix"]["python"]
        assert [f"python{python}" for python in pythons] == [*version_matrix.PYTHONS]


def test_a_wheel_is_built_with_an_old_glibc_and_tried_with_another() -> None:
    assert "/pypa/manylinux_" in RELEASE["wheel"]["container"]
    assert "container" not in RELEASE["try"]


def test_a_release_uploads_nothing_but_its_own_artifacts() -> None:
    uses = [step.get("uses", "") for job in RELEASE.values() for step in job["steps"]]
    actions = {one.partition("@")[0] for one in uses if one}
    assert actions == {
        "actions/checkout",
        "actions/setup-python",
        "actions/upload-artifact",
        "actions/download-artifact",
    }
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text()
