"""Whether a library's file fits this machine, checked before the file is opened.

The dynamic loader maps a truncated file too, and then the process dies. For a file of
another kind of machine its error says that there is no file.
"""

from __future__ import annotations

import struct
from pathlib import Path

# The numbers of ELF's e_machine, with the names of platform.machine().
_MACHINES = {
    3: "i386",
    21: "ppc64le",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
}
_HEADER = 64  # bytes, in a file for 64 bits

# The kernels, which the dynamic loader opens for each library that needs them.
CORE = "libnegative_cosine_core.so"


def file_problem(path: Path) -> str:
    """Why a file is not a library for this machine, "" if it looks like one."""
    try:
        content = path.read_bytes()
    except OSError as error:
        return f"the file cannot be read: {error.strerror}"
    if content and not content.startswith(b"\x7fELF"):
        return "the file is not an ELF library"
    if len(content) < _HEADER:
        return "the file is cut short"
    built_for, here = _machine(content), _machine(_header_of_python() or content)
    if built_for != here:
        return f"the file is for {built_for} and this Python for {here}"
    return "" if _is_whole(content) else "the file is cut short"


def _header_of_python() -> bytes:
    """The header of the running program; b"" where it cannot be read."""
    try:
        with open("/proc/self/exe", "rb") as file:
            return file.read(_HEADER)
    except OSError:
        return b""


def _machine(header: bytes) -> str:
    bits = {1: "32", 2: "64"}.get(header[4], "?")
    (number,) = struct.unpack_from("<H", header, 18)
    return f"{bits}-bit {_MACHINES.get(number, f'machine {number}')}"


def _is_whole(content: bytes) -> bool:
    """Whether a file reaches to its section headers, which are at its end."""
    (section_headers,) = struct.unpack_from("<Q", content, 40)
    size_of_each, count = struct.unpack_from("<HH", content, 58)
    return bool(section_headers + size_of_each * count <= len(content))
