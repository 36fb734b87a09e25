"""The documents are true: code runs, and tables are what the result files say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import update_documents

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

FILE = r"(?:[\w-]+/)*[\w-]+\.(?:md|py|cc|h|cu|cuh|png|csv)"

# Where CONTRIBUTING.md names a second file of a folder by its name alone.
FOLDERS = (
    ".",
    "python/negative_cosine",
    "csrc/tensorflow",
    "csrc/cpu",
    "csrc/cuda",
    "csrc/python",
)


def test_the_tables_in_the_documents_are_what_their_files_say() -> None:
    texts = [document.read_text() for document in update_documents.DOCUMENTS]
    tables = re.findall(r"<!-- table: (\S+) -->", "".join(texts))
    assert sorted(tables) == sorted(update_documents.TABLES)
    for text in texts:
        assert update_documents.with_tables(text) == text


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_the_code_in_the_readme_runs(code: str, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr


def test_every_file_that_the_documents_name_exists() -> None:
    for document in ("README.md", "CONTRIBUTING.md", "docs/gpu.md", "docs/performance.md"):
        text = (ROOT / document).read_text()
        named = re.findall(rf"(?:\]\(|`)({FILE})[)`]", text)
        beside = str(Path(document).parent)  # where links lead from
        for name in named:
            folders = (beside, *FOLDERS)
            assert any((ROOT / folder / name).exists() for folder in folders), name
