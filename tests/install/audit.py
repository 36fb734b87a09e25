"""What Python code does to the world outside: sockets, processes, files, libraries.

Python tells of each by an audit event. Libraries that other libraries open are found in
the list of what the process has mapped.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NETWORK_AND_PROCESSES = (
    "socket.",
    "urllib.",
    "subprocess.",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pty.spawn",
)
FILES = ("os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.symlink")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_found: list[str] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _found is None:
        return
    is_write = event == "open" and bool((arguments[2] or 0) & WRITES)
    if is_write or event.startswith((*NETWORK_AND_PROCESSES, *FILES, "ctypes.dlopen")):
        _found.append(f"{event} {arguments[0]}" if arguments else event)


sys.addaudithook(_hook)  # for good: Python takes none back


@contextlib.contextmanager
def recorded() -> Iterator[list[str]]:
    """A list that fills with what happens inside."""
    global _found
    _found = []
    try:
        yield _found
    finally:
        _found = None


def mapped_libraries() -> set[str]:
    """The shared libraries that this process has opened, whoever did it."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    paths = {line.split(maxsplit=5)[5] for line in lines if len(line.split()) > 5}
    return {path for path in paths if ".so" in Path(path).suffixes}
