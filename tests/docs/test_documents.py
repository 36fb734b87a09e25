"""The documents are true: code runs, and tables are what the result files say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import update_documents
from tests.support.checkout import ROOT
from tests.support.documents import pages, python_blocks

TOP = ("README", "CONTRIBUTING", "SECURITY")
PAGES = sorted((ROOT / "docs").glob("*.md"))

FILE = r"(?:[\w-]+/)*[\w-]+\.(?:md|py|cc|h|cu|cuh|png|csv)"


# Where CONTRIBUTING.md names a second file of a folder by its name alone.
FOLDERS = (
    ".",
    "python/negative_cosine",
    "csrc/tensorflow",
    "csrc/xla",
)


def test_the_tables_in_the_documents_are_what_their_files_say() -> None:
    texts = [document.read_text() for document in update_documents.DOCUMENTS]
    tables = re.findall(r"<!-- table: (\S+) -->", "".join(texts))
    written = {**update_documents.TABLES, **update_documents.MEASURED_ON_A_GPU}
    assert sorted(tables) == sorted(written)
    for text in texts:
        assert update_documents.with_tables(text) == text


WITH_A_MODEL = ("docs/keras.md", "docs/replicas.md", "docs/saved_models.md")
# What imports libraries that are not installed, and is run by another test with stand-ins.
WITH_STAND_INS = ("docs/migration.md", "import horovod.tensorflow")


def blocks_that_run(page: str) -> list[str]:
    """The blocks of a page that are run as they are."""
    if page in WITH_STAND_INS:
        return []
    written = python_blocks((ROOT / page).read_text())
    return [code for code in written if not code.startswith(WITH_STAND_INS)]


WITH_CODE = [page for page in pages() if blocks_that_run(page)]


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
    for code in blocks_that_run(document):  # all in one folder
        run(code, tmp_path)


WEIGHTS_COUNT = """
weights = np.ones(len(pairs["query"]), np.float32)
weights[::2] = 0
model.fit(pairs, weights, sample_weight=weights, batch_size=128)

def loss(*y, sample_weight):
    return model.evaluate(pairs, *y, sample_weight=sample_weight, batch_size=128)

assert 0 < loss(weights, sample_weight=weights)
assert loss(weights, sample_weight=0 * weights) == 0
assert loss(sample_weight=0 * weights) > 0, "docs/keras.md says that Keras drops these"
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


def test_a_call_travels_through_at_most_15_files_each_with_what_is_said_of_it() -> None:
    _, _, section = (
        (ROOT / "CONTRIBUTING.md").read_text().partition("## How a call travels")
    )
    steps = re.findall(r"^(\d+)\. `([^`]+)`: `(\w+)`", section, re.MULTILINE)
    for _, file, name in steps:
        assert re.search(rf"\b{name}\b", (ROOT / file).read_text()), (file, name)
    numbers = [int(number) for number, _, _ in steps]
    on_the_cpu, on_a_gpu = (
        numbers[: numbers.index(10) + 6],
        numbers[numbers.index(10) + 6 :],
    )
    assert on_the_cpu == list(range(1, 16))
    assert on_a_gpu == list(range(10, 15))


def test_every_module_of_the_package_is_in_the_map() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    modules = {path.name for path in (ROOT / "python" / "negative_cosine").glob("*.py")}
    assert {name for name in modules if f"{name}`" not in text} == {"__init__.py"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_page_is_linked_from_another_document(page: Path) -> None:
    others = [*(ROOT / f"{name}.md" for name in TOP), *PAGES]
    texts = [other.read_text() for other in others if other != page]
    assert any(f"{page.name})" in text for text in texts)


def test_what_the_glossary_calls_a_word_in_code_is_there() -> None:
    sources = "".join(
        file.read_text()
        for folder in ("csrc", "python")
        for file in (ROOT / folder).rglob("*")
        if file.suffix in (".py", ".h", ".cc", ".cuh", ".cu")
    )
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    cells = re.findall(r"^\|.*\| ([^|]+) \|$", glossary, re.MULTILINE)
    names = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert len(names) > 20
    assert [name for name in names if name not in sources] == []


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
