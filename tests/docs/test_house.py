"""The floor plan of csrc: which file may include which.

Read a folder from the bottom up: a file includes only what is below it. So a reader of
one file has to know only files of its own floor and of those below.
"""

from __future__ import annotations

import functools
import re

import pytest

from tests.support.checkout import ROOT
from tools.include_graph import include_graph, mermaid

HALVES = ("cpu", "cuda")
# Of each half, from the bottom up; the CPU has no warpgroups.
FLOORS = ("device", "candidates", "rows", "tiles", "warpgroups")
MOST_LEVELS = 10


includes = functools.cache(include_graph)


def arrows() -> list[tuple[str, str]]:
    """Pairs of a file and one that it includes."""
    return [(name, found) for name, names in includes().items() for found in names]


@functools.cache
def longest_chain(name: str) -> tuple[str, ...]:
    """The file, one that it includes, one that this includes, and so on."""
    chains = [longest_chain(found) for found in includes()[name]]
    return (name, *max(chains, key=len, default=()))


def everything_below(name: str) -> set[str]:
    """All files that reach the compiler with this one."""
    return {name}.union(*(everything_below(found) for found in includes()[name]))


def sources() -> list[str]:
    """The files that are compiled."""
    return sorted(name for name in includes() if name.endswith((".cc", ".cu")))


@pytest.mark.parametrize("source", sources())
def test_a_source_has_few_levels_of_includes(source: str) -> None:
    chain = longest_chain(source)
    levels = len(chain) - 1
    assert levels <= MOST_LEVELS, " -> ".join(chain)


def floor_of(name: str) -> int:
    """0 for the lowest floor; a half's own files, which join the floors, are on top."""
    folder = name.split("/")[1]
    return FLOORS.index(folder) if folder in FLOORS else len(FLOORS)


@pytest.mark.parametrize("half", HALVES)
def test_a_floor_includes_nothing_of_a_higher_one(half: str) -> None:
    upward = [
        (name, found)
        for name, found in arrows()
        if name.startswith(f"{half}/") and found.startswith(f"{half}/")
        if floor_of(found) > floor_of(name)
    ]
    assert not upward


@pytest.mark.parametrize(("half", "other"), [HALVES, HALVES[::-1]])
def test_neither_half_includes_the_other(half: str, other: str) -> None:
    assert not [
        (name, found)
        for name, found in arrows()
        if name.startswith(f"{half}/") and found.startswith(f"{other}/")
    ]


def test_no_header_for_the_host_brings_device_code() -> None:
    """So the passes, which launch kernels, compile without one."""
    host = [name for name in includes() if name.endswith((".h", ".cc"))]
    host += ["cuda/passes.cu", "cuda/layout.cu", "cuda/device_status.cu"]
    for name in host:
        device = [found for found in everything_below(name) if found.endswith(".cuh")]
        assert not device, name


def test_no_device_header_brings_a_launch() -> None:
    neutral = {
        "cuda/device/alignment.h",
        "cuda/device/element_types.h",
        "cuda/device/scratch.h",
        "cuda/device/shared_bytes.h",
    }
    for name in includes():
        if name.endswith(".cuh"):
            below = everything_below(name)
            host = [found for found in below if re.match(r"cuda/.*\.h$", found)]
            assert set(host) <= neutral, name


def test_the_drawing_of_the_folders_is_what_the_files_include() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert mermaid(includes()) in page, "python tools/include_graph.py --folders"
