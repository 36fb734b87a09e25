"""The documents are true: code runs, and tables are what the result files say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import update_documents
from tests.support.checkout import ROOT
from tests.support.documents import python_blocks

TOP = ("README", "CONTRIBUTING", "SECURITY")
PAGES = sorted((ROOT / "docs").glob("*.md"))

FILE = r"(?:[\w-]+/)*[\w-]+\.(?:md|py|cc|h|cu|cuh|png|csv)"


# Where CONTRIBUTING.md names a second file of a folder by its name alone.
FOLDERS = (
    ".",
    "python/negative_cosine",
    "csrc/tensorflow",
    "csrc/xla",
    "csrc/cpu",
    "csrc/cuda",
    "csrc/numpy",
)


def test_the_tables_in_the_documents_are_what_their_files_say() -> None:
    texts = [document.read_text() for document in update_documents.DOCUMENTS]
    tables = re.findall(r"<!-- table: (\S+) -->", "".join(texts))
    written = {**update_documents.TABLES, **update_documents.MEASURED_ON_A_GPU}
    assert sorted(tables) == sorted(written)
    for text in texts:
        assert update_documents.with_tables(text) == text


WITH_A_MODEL = ("README.md", "docs/replicas.md", "docs/saved_models.md")
WITH_CODE = (*WITH_A_MODEL, "docs/padded_batches.md")


def run(code: str, folder: Path) -> None:
    """Runs code in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("document", WITH_CODE)
def test_the_code_in_the_documents_runs(document: str, tmp_path: Path) -> None:
    blocks = python_blocks((ROOT / document).read_text())
    assert blocks
    for code in blocks:  # all in one folder
        run(code, tmp_path)


WEIGHTS_COUNT = """
weights = np.ones(len(pairs["query"]), np.float32)
weights[::2] = 0
model.fit(pairs, weights, sample_weight=weights, batch_size=128)

def loss(*y, sample_weight):
    return model.evaluate(pairs, *y, sample_weight=sample_weight, batch_size=128)

assert 0 < loss(weights, sample_weight=weights)
assert loss(weights, sample_weight=0 * weights) == 0
assert loss(sample_weight=0 * weights) > 0, "README says that Keras drops these"
"""


@pytest.mark.parametrize("document", WITH_A_MODEL)
def test_a_model_of_the_documents_takes_the_weights_that_keras_gives_it(
    document: str, tmp_path: Path
) -> None:
    blocks = python_blocks((ROOT / document).read_text())
    (model,) = (code for code in blocks if "def compute_loss" in code)
    run(model + WEIGHTS_COUNT, tmp_path)


def test_every_file_that_the_documents_name_exists() -> None:
    for document in (*(ROOT / f"{name}.md" for name in TOP), *PAGES):
        text = document.read_text()
        named = re.findall(rf"(?:\]\(|`)({FILE})[)`]", text)
        beside = document.parent  # where links lead from
        for name in named:
            folders = (beside, *FOLDERS)
            assert any((ROOT / folder / name).exists() for folder in folders), name


SOURCES = ("csrc", "python", "tests", "benchmarks", "examples")
CONTRACT = ROOT / "docs" / "semantics.md"


def test_every_heading_of_the_contract_that_the_code_names_exists() -> None:
    headings = set(re.findall(r"^#+ (.+)$", CONTRACT.read_text(), re.MULTILINE))
    named = set()
    for folder in SOURCES:
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".py", ".h", ".cc", ".cuh", ".cu"):
                # A comment may break anywhere within the reference.
                text = re.sub(r"\s*\n\s*(?://|#)?\s*", " ", file.read_text())
                named |= set(re.findall(r'docs/semantics\.md, "([^"]+)"', text))
    assert len(named) > 5
    assert named <= headings
