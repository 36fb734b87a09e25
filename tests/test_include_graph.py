"""The drawing of the includes shows every source file, and its arrows form no circle."""

from __future__ import annotations

import graphlib
from pathlib import Path

import pytest

from tools.include_graph import CSRC, SUFFIXES, dot, include_graph


def test_the_graph_has_every_source_file() -> None:
    files = {
        path.relative_to(CSRC).as_posix()
        for path in CSRC.rglob("*")
        if path.suffix in SUFFIXES
    }
    assert set(include_graph()) == files
    assert {"core/params.h", "cpu/passes.cc", "cuda/passes.cu"} <= files


def test_no_file_includes_itself_by_way_of_others() -> None:
    graphlib.TopologicalSorter(include_graph()).prepare()


def test_a_circle_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "a.h").write_text('#include "b.h"\n')
    (tmp_path / "b.h").write_text('#include "a.h"\n')
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(include_graph(tmp_path)).prepare()


def test_the_drawing_has_a_box_for_each_folder_and_an_arrow_for_each_include(
    tmp_path: Path,
) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "params.h").write_text("#include <cstdint>\n")
    (tmp_path / "passes.cc").write_text('#include "core/params.h"\n')
    drawing = dot(include_graph(tmp_path))
    assert 'subgraph "cluster_core"' in drawing
    assert '"core/params.h" [label="params.h"]' in drawing
    assert drawing.count("->") == 1
    assert '"passes.cc" -> "core/params.h"' in drawing
