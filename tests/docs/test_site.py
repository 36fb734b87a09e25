"""The site of `make docs`: it is whole, it is strict, and it asks no other host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import negative_cosine
import pytest
import yaml

from tests.support.checkout import ROOT
from tools import draw_pictures, public_docstrings

PYTHON = ROOT / "build" / "docs-venv" / "bin" / "python"
# What a build of the site reads.
SOURCES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs",
    "examples",
    "mkdocs.yml",
    "python",
    "tools",
)


def build(checkout: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Builds the site of a checkout, as `make docs` does."""
    assert PYTHON.exists(), "make docs makes the environment that builds the site"
    return subprocess.run(
        [str(PYTHON), "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)],
        cwd=checkout,
        env={"NO_MKDOCS_2_WARNING": "1", "PATH": f"{PYTHON.parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )


# What takes long to make is made by one process.
pytestmark = pytest.mark.xdist_group("site")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of these sources."""
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT, folder)
    assert built.returncode == 0, built.stderr
    return folder


# What is added to a file, and what the build then says.
FAULTS = {
    "a link to no page": ("docs/index.md", "\n[nowhere](nowhere.md)\n", "'nowhere.md'"),
    "a link to no heading": ("docs/install.md", "\n[up](#no-heading)\n", "'#no-heading'"),
    "a page that is not in the navigation": ("docs/unread.md", "# Unread\n", "unread.md"),
    "a reference to nothing": (
        "docs/keras.md",
        "\n[`gone`][negative_cosine.gone]\n",
        "'negative_cosine.gone'",
    ),
    "a public docstring without its sections": (
        "python/negative_cosine/_rank_metrics.py",
        '\n\ndef recall_at_k(ranks: int) -> None:\n    """Nothing."""\n',
        "the docstring of recall_at_k: there is no section Args",
    ),
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """A build with every fault, which names them all before it ends."""
    folder = tmp_path_factory.mktemp("faulty")
    checkout = copy_of_the_sources(folder / "checkout")
    for name, addition, _ in FAULTS.values():
        with open(checkout / name, "a") as file:
            file.write(addition)
    return build(checkout, folder / "site")


@pytest.mark.parametrize("fault", FAULTS)
def test_the_build_fails_and_names(
    fault: str, faulty: subprocess.CompletedProcess[str]
) -> None:
    assert faulty.returncode != 0
    assert FAULTS[fault][-1] in faulty.stderr + faulty.stdout


def copy_of_the_sources(folder: Path) -> Path:
    """What a build of the site reads, to change it."""
    folder.mkdir()
    ignored = shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    pages = "".join(page.read_text() for page in (site / "reference").glob("*.html"))
    for name in negative_cosine.__all__:
        assert pages.count(f'id="negative_cosine.{name}"') == 1, name


def test_a_public_name_in_a_page_leads_to_its_entry_in_the_reference(site: Path) -> None:
    link = 'href="reference/keras.html#negative_cosine.DocumentQueue"'
    assert link in (site / "saved_models.html").read_text()
    link = 'href="#negative_cosine.NegativeCosineStats"'
    assert link in (site / "reference" / "loss.html").read_text()


def test_a_picture_from_outside_of_docs_is_shown(site: Path) -> None:
    assert 'src="pictures/learning_curves.png"' in (site / "losses.html").read_text()
    stored = (ROOT / "examples" / "results" / "curves.png").read_bytes()
    assert (site / "pictures" / "learning_curves.png").read_bytes() == stored


def test_every_page_is_in_the_navigation() -> None:
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    named = set(re.findall(r"[\w/]+\.md", str(navigation)))
    docs = ROOT / "docs"
    assert {str(page.relative_to(docs)) for page in docs.rglob("*.md")} <= named


class Resources(HTMLParser):
    """Collects what a browser fetches to show a page, which links to follow are not."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Looks at one tag."""
        for name, value in attrs:
            is_fetched = name in ("src", "srcset", "data", "poster") or (
                name == "href" and tag != "a"
            )
            if is_fetched and value:
                self.found.append(value)


def test_no_page_asks_another_host(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 20
    for page in pages:
        resources = Resources()
        resources.feed(page.read_text())
        assert resources.found
        foreign = [one for one in resources.found if re.match(r"(\w+:)?//", one)]
        assert foreign == [], page


def test_no_stylesheet_asks_another_host(site: Path) -> None:
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(\w+:)?//", sheet.read_text()), sheet


def test_every_public_docstring_has_its_sections() -> None:
    assert public_docstrings.problems() == []


def test_the_names_that_the_sources_list_are_those_that_an_import_finds() -> None:
    assert public_docstrings.public_names() == negative_cosine.__all__


@pytest.mark.parametrize(
    ("docstring", "problem"),
    [
        ("Words.\n\n    Args:\n        x: a number.", "there is no section Example"),
        ("Words.\n\n    Example:\n        >>> 1", "there is no section Args"),
        ("Words.\n\n    Args:\n        y: other.", "Args does not say what x is"),
        ("", "there is no docstring"),
    ],
)
def test_what_a_docstring_lacks_is_named(
    docstring: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / "__init__.py").write_text('__all__ = ["f"]\n')
    (tmp_path / "_f.py").write_text(f'def f(x):\n    """{docstring}"""\n')
    assert f"f: {problem}" in public_docstrings.problems(tmp_path)


@pytest.mark.parametrize("name", draw_pictures.DRAWINGS)
def test_a_picture_is_what_its_script_draws(name: str) -> None:
    stored = (draw_pictures.PICTURES / f"{name}.svg").read_text()
    assert stored == draw_pictures.DRAWINGS[name](), "python -m tools.draw_pictures"


def test_every_message_that_the_install_page_explains_is_in_the_code() -> None:
    files = [ROOT / "setup.py", ROOT / "CMakeLists.txt", *(ROOT / "cmake").glob("*")]
    files += (ROOT / "python" / "negative_cosine").glob("*.py")
    # A message may be broken anywhere into several literals.
    code = re.sub(r'"\s*f?"', "", "".join(file.read_text() for file in files))
    page = (ROOT / "docs" / "install.md").read_text()
    _, _, tables = page.partition("## What an error of the build means")
    messages = re.findall(r"^\| `([^`]+)`", tables, re.MULTILINE)
    assert len(messages) > 15
    of_tensorflow = "Op type not registered 'NegativeCosineLoss'"
    assert of_tensorflow in messages
    for message in messages:
        assert message in code or message == of_tensorflow, message
