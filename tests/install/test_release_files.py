"""What goes with the wheels of a release: checksums, and the changelog's section."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import tomli

from tests.support.checkout import ROOT
from tools import release_files

CHANGELOG = """# Changelog

## 0.2.0

- New.

## 0.1.0

- First,
  of two lines.
"""


def test_the_notes_are_the_versions_section() -> None:
    assert release_files.notes(CHANGELOG, "0.2.0") == "- New.\n"
    assert release_files.notes(CHANGELOG, "0.1.0") == "- First,\n  of two lines.\n"


def test_a_version_without_a_section_is_named() -> None:
    with pytest.raises(SystemExit, match=r"has no section ## 0\.3\.0: write one"):
        release_files.notes(CHANGELOG, "0.3.0")


def test_the_present_version_has_a_section() -> None:
    version = tomli.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert release_files.notes((ROOT / "CHANGELOG.md").read_text(), version)


def test_sha256sum_accepts_the_checksums(tmp_path: Path) -> None:
    for python in ("cp311", "cp312"):
        (tmp_path / f"negative_cosine-0.1.0-{python}-x.whl").write_text(python)
    release_files.main([str(tmp_path)])
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.count(": OK") == 2
    assert "fused_negative_cosine_loss" in (tmp_path / "NOTES.md").read_text()


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ([], "got no wheel"),
        (["a-1.0-x.whl", "a-1.1-x.whl"], r"got wheels of versions 1\.0, 1\.1"),
    ],
)
def test_wheels_of_several_versions_are_no_release(
    names: list[str], found: str, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(SystemExit, match=found):
        release_files.main([str(tmp_path)])
