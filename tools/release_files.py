"""Writes what goes with the wheels of a release: `make release-files`.

SHA256SUMS, for `sha256sum --check`, and NOTES.md, the changelog's section of the version
that the wheels have.

    python -m tools.release_files dist
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from tests.support.checkout import ROOT


def checksums(files: Sequence[Path]) -> str:
    """The lines that sha256sum writes."""
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return "".join(
        f"{one}  {file.name}\n" for one, file in zip(digests, files, strict=True)
    )


def version_of(files: Sequence[Path]) -> str:
    """The version in the names of wheels, which must be the same."""
    versions = sorted({file.name.split("-")[1] for file in files})
    if len(versions) != 1:
        found = f"wheels of versions {', '.join(versions)}" if versions else "no wheel"
        raise SystemExit(
            f"the folder must hold wheels of one version, got {found}: empty it, and run "
            "make wheel for each Python"
        )
    return versions[0]


def notes(changelog: str, version: str) -> str:
    """The section of a version."""
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]
    for section in sections:
        title, _, text = section.partition("\n")
        if title.split()[0] == version:
            return text.strip() + "\n"
    raise SystemExit(f"CHANGELOG.md has no section ## {version}: write one")


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes both files into the folder of the wheels."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    wheels = sorted(folder.glob("*.whl"))
    text = notes((ROOT / "CHANGELOG.md").read_text(), version_of(wheels))
    (folder / "NOTES.md").write_text(text)
    (folder / "SHA256SUMS").write_text(checksums(wheels))


if __name__ == "__main__":
    main()
