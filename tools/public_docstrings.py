"""Says what the docstrings of the public names lack: a section, or an argument.

It reads the sources and imports nothing: `make docs` calls it where there is no TensorFlow.

    python -m tools.public_docstrings
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "python" / "negative_cosine"

Definition = ast.FunctionDef | ast.ClassDef


def public_names(package: Path = PACKAGE) -> list[str]:
    """What ``__all__`` lists."""
    for node in ast.walk(ast.parse((package / "__init__.py").read_text())):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    raise ValueError(f"{package} has no __all__")


def definitions(package: Path = PACKAGE) -> dict[str, Definition]:
    """The function or class of each public name."""
    wanted = set(public_names(package))
    found = {
        node.name: node
        for file in sorted(package.glob("*.py"))
        for node in ast.parse(file.read_text()).body
        if isinstance(node, Definition) and node.name in wanted
    }
    if missing := sorted(wanted - set(found)):
        raise ValueError(f"no module of {package} defines {', '.join(missing)}")
    return found


def problems(package: Path = PACKAGE) -> list[str]:
    """A sentence for each thing that a public docstring lacks."""
    found = definitions(package).items()
    return [f"{name}: {problem}" for name, node in found for problem in lacks(node)]


def lacks(node: Definition) -> Iterator[str]:
    """What the docstring of one function or class lacks."""
    docstring = ast.get_docstring(node)
    if not docstring:
        yield "there is no docstring"
        return
    sections = sections_of(docstring)
    called = function_that_is_called(node)
    wanted = ["Example"]
    if called is None:  # a tuple of named values
        wanted.append("Attributes")
    else:
        wanted += ["Args", "Raises"]
        if isinstance(node, ast.FunctionDef) or "Call arguments" in sections:
            wanted.append("Returns")
    for name in wanted:
        if name not in sections:
            yield f"there is no section {name}"
    if called is not None and "Args" in sections:
        for argument in arguments_of(called):
            if not re.search(rf"^{re.escape(argument)}:", sections["Args"], re.MULTILINE):
                yield f"Args does not say what {argument} is"


def sections_of(docstring: str) -> dict[str, str]:
    """The sections' texts, without their indentation, by their titles."""
    parts = re.split(r"^(\w[\w ]*):$", docstring, flags=re.MULTILINE)
    titles, texts = parts[1::2], parts[2::2]
    return {
        title: re.sub(r"^ {4}", "", text, flags=re.MULTILINE)
        for title, text in zip(titles, texts, strict=True)
    }


def function_that_is_called(node: Definition) -> ast.FunctionDef | None:
    """The function itself or a class's constructor; None where it has none of its own."""
    if isinstance(node, ast.FunctionDef):
        return node
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            return member
    return None


def arguments_of(function: ast.FunctionDef) -> list[str]:
    """The names of its arguments, as a docstring writes them."""
    given = function.args
    names = [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    if given.kwarg is not None:
        names.append(f"**{given.kwarg.arg}")
    return [name for name in names if name != "self"]


if __name__ == "__main__":
    sys.exit("\n".join(problems()))
