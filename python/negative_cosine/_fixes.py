"""What would fix an installation, by what is wrong with it.

Installing again does not help where the system is the cause.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from negative_cosine._releases import minor_release

INSTALL = "pip install --no-build-isolation --force-reinstall --no-deps . (in its sources)"
REINSTALL = f"reinstall negative-cosine where a C++ compiler is found, with: {INSTALL}"
ON_THE_CPU = (
    "place the loss on the CPU with tf.device('CPU'), or use implementation='reference' "
    "to accept it"
)
UNCOMPILED = (
    "do not compile the function (jit_compile=False), or use implementation='reference'"
)


def with_fix(problem: str, fix: str) -> str:
    """A problem and its fix, worded as in every message."""
    return f"{problem}. To fix it, {fix}."


def reinstall_without(variable: str) -> str:
    """The fix where the build was asked, by ``variable``, to omit a part."""
    return f"{REINSTALL}, and without {variable}"


def other_release(releases: Sequence[str]) -> str:
    """The fix where TensorFlow is of none of the releases that there are libraries for.

    Of one release: the package was built here, and TensorFlow changed since.
    """
    if len(releases) < 2:
        return REINSTALL
    names = " or ".join(map(minor_release, releases))
    return f"install TensorFlow {names}, or {REINSTALL}"


def with_cuda() -> str:
    """The fix for a build without CUDA kernels, whatever the reason."""
    return (
        "install it again with NEGATIVE_COSINE_CUDA=1 and nvcc on PATH (the build "
        f"then fails where it cannot compile them), {ON_THE_CPU}"
    )


def fix_of(problem: str, library: Path) -> str:
    """The fix for a library that cannot be opened, by what the loader or system says."""
    for pattern, fix in _FIXES.items():
        if match := re.search(pattern, problem):
            return fix.format(library=library, folder=library.parent, **match.groupdict())
    if "failed to map segment" in problem:
        return _fix_of_mapping(library)
    return REINSTALL


# The runtime of C++ comes with the compiler, and an older one may be loaded: conda has its
# own, and TensorFlow or another package may have opened it first.
_FIXES = {
    r"version `(GLIBCXX|CXXABI|GCC|GOMP)_": (
        "update the C++ runtime library that is loaded (in a conda environment: conda "
        "install -c conda-forge libstdcxx-ng libgcc-ng), or build with an older compiler, "
        f"named in CXX as by CXX=g++-12 {INSTALL}"
    ),
    r"version `GLIBC_": (
        "reinstall negative-cosine on this system, or install a wheel that was built with "
        f"an equally old glibc, with: {INSTALL}"
    ),
    r"(?P<needed>(?!libtensorflow)lib[\w+-]+\.so[.\d]*): cannot open shared object file": (
        "install the package that contains {needed} (Debian and Ubuntu: apt-file search "
        "{needed}; Fedora: dnf provides '*/{needed}'), or add its folder to "
        "LD_LIBRARY_PATH"
    ),
    r"Too many open files": "raise the limit of open files of this process (ulimit -n)",
    r"cannot (be read|open shared object file): Permission denied": (
        "give this user permission to read it: chmod a+r {library}"
    ),
}


def _fix_of_mapping(library: Path) -> str:
    folder = library.parent
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return f"install it elsewhere: {folder} is mounted with noexec"
    return (
        f"allow this process to run code from {folder} (SELinux or a similar policy may "
        "forbid it), or raise its memory limit (ulimit -v)"
    )
