"""Prints which file of csrc includes which, as a graph for Graphviz: a box for each folder.

python tools/include_graph.py | dot -Tsvg -o includes.svg

With --folders only which folder includes which, as the drawing in CONTRIBUTING.md.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

CSRC = Path(__file__).parent.parent / "csrc"
SUFFIXES = (".h", ".cuh", ".cc", ".cu")


def include_graph(root: Path = CSRC) -> dict[str, list[str]]:
    """Each source file, and the files of ``root`` that it includes, by their paths."""
    files = {
        path.relative_to(root).as_posix(): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.suffix in SUFFIXES
    }
    return {
        name: [one for one in re.findall(r'#include "([^"]+)"', text) if one in files]
        for name, text in files.items()
    }


def dot(graph: dict[str, list[str]]) -> str:
    """The graph in Graphviz's language, with a cluster for each folder."""
    lines = ["digraph includes {", "  rankdir=LR;", "  node [shape=box];"]
    for folder in sorted({name.rpartition("/")[0] for name in graph}):
        lines += [f'  subgraph "cluster_{folder}" {{', f'    label="{folder}";']
        for name in graph:
            if name.rpartition("/")[0] == folder:
                lines.append(f'    "{name}" [label="{name.rpartition("/")[2]}"];')
        lines.append("  }")
    lines += [f'  "{name}" -> "{one}";' for name, ones in graph.items() for one in ones]
    return "\n".join([*lines, "}"])


def folder_of(name: str) -> str:
    """Such as cpu/rows of cpu/rows/forward.h."""
    return name.rpartition("/")[0]


def folder_arrows(graph: dict[str, list[str]]) -> list[tuple[str, str]]:
    """Which folder includes which, but for what a longer way through folders says too."""
    arrows = {
        (folder_of(name), folder_of(one))
        for name, ones in graph.items()
        for one in ones
        if folder_of(name) != folder_of(one)
    }

    def below(folder: str) -> set[str]:
        ones = {to for start, to in arrows if start == folder}
        return ones.union(*map(below, ones))

    return sorted(
        (start, to)
        for start, to in arrows
        if not any(to in below(via) for one, via in arrows if one == start)
    )


def mermaid(graph: dict[str, list[str]]) -> str:
    """The folders in the language of the drawings that GitHub shows in a page."""
    lines = [f"    {start} --> {to}" for start, to in folder_arrows(graph)]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folders", action="store_true", help="folders alone")
    draw = mermaid if parser.parse_args().folders else dot
    print(draw(include_graph()))
