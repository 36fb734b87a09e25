"""Which of the package's libraries fit the TensorFlow that runs.

A build from source has libraries for one release of TensorFlow. A wheel of `make wheel` has
them for several, each with its release in its name: ``_negative_cosine_ops.tf2.21.so``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

OPS = "_negative_cosine_ops"
XLA = "_negative_cosine_xla"


def built_for(build_info: dict[str, Any] | None) -> tuple[str, ...]:
    """The releases that there are libraries for, such as 2.20.0 and 2.21.0."""
    releases = (build_info or {}).get("tensorflow", "unknown")
    return tuple(map(str, releases if isinstance(releases, list) else [releases]))


def ops_path(folder: Path, build_info: dict[str, Any] | None, version: str) -> Path:
    """The op library for a TensorFlow; where none fits, one that is there or should be."""
    if build_info is None:
        found = sorted(folder.glob(f"{OPS}*.so"))
        return found[-1] if found else folder / f"{OPS}.so"
    if not isinstance(build_info.get("tensorflow"), list):
        return folder / f"{OPS}.so"
    releases = [minor_release(release) for release in built_for(build_info)]
    here = minor_release(version)
    taken = here if here in releases else (releases or [here])[-1]
    return folder / f"{OPS}.tf{taken}.so"


def xla_path(ops: Path) -> Path:
    """The library for compiled functions that goes with an op library."""
    return ops.with_name(ops.name.replace(OPS, XLA, 1))


def release_problem(build_info: dict[str, Any], version: str) -> str:
    """Why the libraries do not fit a TensorFlow, "" if one of them does."""
    releases = built_for(build_info)
    if minor_release(version) in map(minor_release, releases):
        return ""
    if len(releases) == 1:
        return (
            f"the native library was built for TensorFlow {releases[0]} and this is "
            f"TensorFlow {version}"
        )
    all_releases = " and ".join(releases)
    return (
        f"the package has native libraries for TensorFlow {all_releases} and this is "
        f"TensorFlow {version}"
    )


def minor_release(version: str) -> str:
    """Such as 2.21, whose libraries fit every patch release of it."""
    return ".".join(version.split(".")[:2])
