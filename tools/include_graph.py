"""Prints which file of csrc includes which, as a graph for Graphviz: a box for each folder.

python tools/include_graph.py | dot -Tsvg -o includes.svg
"""

from __future__ import annotations

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


if __name__ == "__main__":
    print(dot(include_graph()))
