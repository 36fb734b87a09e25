"""Ways through compiled code: what a warp executes at the least, and how long that takes.

The compiler writes into each instruction for how many clocks its warp has to wait before
the next one: the stall count. The sum of these is the time of a warp that waits for
nothing else, neither for memory nor for another warp.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks.gpu.machine_code import Instructions, Kernel

# The compiler also leaves loops by calls that do not return.
JUMP = re.compile(r"\b(?:BRA\b(?!\.DIV)|CALL\.REL\.NOINC\b).*?0x([0-9a-f]+)")
# Without a condition: nothing goes on behind it.
LEAVES = re.compile(r"BRA\b(?!\.(DIV|CONV))|EXIT\b|RET\b")


class Way(NamedTuple):
    """What a warp executes on a way."""

    instructions: int
    stalls: int  # clocks


def places_of(code: Instructions, pattern: str) -> list[int]:
    """Where instructions match."""
    return [i for i, (_, text) in enumerate(code) if re.search(pattern, text)]


def shortest_way(code: Instructions, stops: Sequence[int]) -> list[int]:
    """The places of the fewest instructions from the first to the last by way of these."""
    following = ways_on(code)
    way = [0]
    for stop in (*sorted(stops), len(code) - 1):
        way += way_between(following, way[-1], stop)[1:]
    return way


def ways_on(code: Instructions) -> list[list[int]]:
    """Where each instruction goes on: forwards, so that a loop within counts once."""
    place = {address: i for i, (address, _) in enumerate(code)}
    following = []
    for i, (address, text) in enumerate(code):
        next_ones = [] if LEAVES.match(text) else [i + 1]
        jump = JUMP.search(text)
        target = int(jump[1], 16) if jump else -1
        if target > address and target in place:
            next_ones.append(place[target])
        following.append(next_ones)
    return following


def way_between(following: Sequence[Sequence[int]], start: int, end: int) -> list[int]:
    """The places of the fewest instructions from one to another, both included."""
    came_from = {start: start}
    waiting = deque([start])
    while waiting and end not in came_from:
        here = waiting.popleft()
        for there in following[here]:
            if there <= end and there not in came_from:
                came_from[there] = here
                waiting.append(there)
    way = [end]
    while way[-1] != start:
        way.append(came_from[way[-1]])
    return way[::-1]


def measure(kernel: Kernel, code: Instructions, stops: Sequence[int]) -> Way:
    """The shortest way through a stretch of a kernel's code, (0, 0) if there is none."""
    if not code:
        return Way(0, 0)
    places = shortest_way(code, stops)
    # Nothing is issued faster than once a clock.
    stalls = (max(1, kernel.stalls[code[place][0]]) for place in places)
    return Way(len(places), sum(stalls))
