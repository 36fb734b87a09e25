"""What `make docs` adds to docs/*.md, which are also read as they are, in a checkout.

mkdocs.yml names this file twice. MkDocs calls the functions that begin with ``on_``;
mkdocstrings gives the class to griffe, which reads the docstrings.
"""

from __future__ import annotations

import json
import logging
import posixpath
import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File

from tools.public_docstrings import problems, public_names

ROOT = Path(__file__).parent.parent
# Pages that are made of documents outside of docs/.
FROM_ELSEWHERE = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "emulator.md": "tools/cuda_emulator/README.md",
    "security.md": "SECURITY.md",
}
# Pictures that are outside of docs/.
PICTURES = {"pictures/learning_curves.png": "examples/results/curves.png"}
NOTEBOOK = "tutorial.ipynb"
REFERENCE = "reference/"
KERAS = f"{REFERENCE}keras.md"
NAMES_OF_METRICS = ("recall_at_k",)  # there: the layer reports one by this name

log = logging.getLogger("mkdocs.hooks.docs_site")  # with --strict a warning ends the build


def on_pre_build(config: Any) -> None:
    """Looks at the public docstrings."""
    for problem in problems():
        log.warning("the docstring of %s", problem)


def on_files(files: Any, config: Any) -> Any:
    """Adds what is outside of docs/, and the page that is made of the notebook."""
    notebook = json.loads((ROOT / "docs" / NOTEBOOK).read_text())
    files.append(File.generated(config, "tutorial.md", content=as_markdown(notebook)))
    for page, document in FROM_ELSEWHERE.items():
        text = (ROOT / document).read_text()
        files.append(File.generated(config, page, content=of_the_site(text, document)))
    for name, picture in PICTURES.items():
        files.append(File.generated(config, name, abs_src_path=str(ROOT / picture)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Writes what GitHub's Markdown reads for Python's."""
    markdown = re.sub(r"^<!-- .* -->\n", "\n", markdown, flags=re.MULTILINE)
    markdown = markdown.replace("](../README.md)", "](index.md)")
    if page.file.src_uri != "tutorial.md":
        markdown = markdown.replace(f"]({NOTEBOOK})", "](tutorial.md)")
    for name, elsewhere in {**FROM_ELSEWHERE, **PICTURES}.items():
        markdown = markdown.replace(f"](../{elsewhere})", f"]({name})")
    if page.file.src_uri == "migration.md":
        markdown = with_markdown_in_tables(markdown)
        page.meta["hide"] = ["toc"]  # code beside code needs its room
    return markdown


def on_page_content(html: str, page: Any, config: Any, files: Any) -> str:
    """Leads from a public name in code to its entry in the reference."""
    for name, target in reference_pages(files).items():
        if page.file.src_uri == KERAS and name in NAMES_OF_METRICS:
            continue
        if page.file.src_uri.startswith(REFERENCE) and target == page.file.url:
            url = ""
        else:
            url = posixpath.relpath(target, posixpath.dirname(page.file.url) or ".")
        link = f'<a href="{url}#negative_cosine.{name}"><code>{name}</code></a>'
        html = outside_of_links(html, f"<code>{name}</code>", link)
    return html


def reference_pages(files: Any) -> dict[str, str]:
    """The URL of the page that has each public name."""
    found = {}
    for file in files.documentation_pages():
        if file.src_uri.startswith(REFERENCE):
            for name in re.findall(
                r"^::: negative_cosine\.(\w+)$", file.content_string, re.M
            ):
                found[name] = file.url
    if missing := sorted(set(public_names()) - set(found)):
        log.warning("no page of the reference has %s", ", ".join(missing))
    return found


def outside_of_links(html: str, old: str, new: str) -> str:
    """Replaces what is in no link, heading or block of code."""
    closed = r"(<a [^>]*>.*?</a>|<h\d[^>]*>.*?</h\d>|<pre[^>]*>.*?</pre>)"
    parts = re.split(closed, html, flags=re.DOTALL)
    parts[::2] = [part.replace(old, new) for part in parts[::2]]
    return "".join(parts)


def of_the_site(text: str, document: str) -> str:
    """A document of the repository with its links as they are from docs/."""
    text = re.sub(r"\]\(docs/([^)]+)\)", r"](\1)", text)
    for page, other in FROM_ELSEWHERE.items():
        text = text.replace(f"]({other})", f"]({page})")
    return re.sub(r"```mermaid\n(.*?)```", as_a_list, text, flags=re.DOTALL)


def as_a_list(drawing: re.Match[str]) -> str:
    """The arrows of a Mermaid drawing, which a page could draw by a script alone."""
    arrows = re.findall(r"(\S+) --> (\S+)", drawing[1])
    return "\n".join(f"- `{start}` includes `{end}`" for start, end in arrows)


def as_markdown(notebook: Any) -> str:
    """A notebook as a page: its text, its code, and what the code printed."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        printed = "".join("".join(output["text"]) for output in cell["outputs"])
        if printed:
            parts.append(f'```text title="It prints"\n{printed.rstrip()}\n```')
    parts.insert(1, f"To run it yourself, take [the notebook]({NOTEBOOK}).")
    return "\n\n".join(parts)


def with_markdown_in_tables(markdown: str) -> str:
    """Python's Markdown reads what is inside of HTML only where it is told to."""
    markdown = markdown.replace("<table>", '<table class="pair" markdown="1">')
    markdown = markdown.replace("<tr><td>", '<tr markdown="1"><td markdown="1">')
    return markdown.replace("</td><td>", '</td><td markdown="1">')


class Sections(griffe.Extension):
    """Lets griffe read the docstrings' sections as they are meant."""

    def on_object(self, *, obj: Any, **arguments: Any) -> None:
        """Changes the docstring of each object before it is read."""
        if obj.docstring:
            obj.docstring.value = with_known_sections(obj.docstring.value)


def with_known_sections(docstring: str) -> str:
    """Sections by names that griffe knows, their own as titles.

    An example is code, a layer has arguments of its call, and what is returned has no type
    before a colon.
    """
    text = docstring.replace("Example:\n", "Examples: Example\n")
    text = text.replace("Call arguments:\n", "Other Parameters: Call arguments\n")
    section = r"^Returns:\n(?:(?: .*)?\n)*"

    def without_colons(found: re.Match[str]) -> str:
        return "Returns:\n" + re.sub(
            r":(?=\s)", "&#58;", found[0].removeprefix("Returns:\n")
        )

    return re.sub(section, without_colons, text, flags=re.MULTILINE)
