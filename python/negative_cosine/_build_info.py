"""What the build recorded about itself, and which of its parts can be used here."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from negative_cosine._releases import built_for, minor_release

PACKAGE_DIR = Path(__file__).parent.resolve()
BUILD_INFO = "_build_info.json"


def read_build_info(folder: Path) -> dict[str, Any] | None:
    """The description in ``folder``, None if it is missing or no JSON."""
    try:
        info = json.loads((folder / BUILD_INFO).read_text())
    except (OSError, ValueError):
        return None
    return info if isinstance(info, dict) else None


def is_built_without_tensorflow(build_info: dict[str, Any] | None) -> bool:
    """Whether the build was asked for the NumPy modules alone."""
    return build_info is not None and build_info.get("tensorflow", "unknown") is None


@functools.cache
def has_numpy_modules_alone() -> bool:
    """Whether all that can be used of this installation are the NumPy modules.

    An installation that was built for TensorFlow needs it, and says so by itself.
    """
    if not is_built_without_tensorflow(read_build_info(PACKAGE_DIR)):
        return False
    try:
        importlib.import_module("tensorflow")
    except ImportError:
        return True
    return False


def require_tensorflow() -> None:
    """Says where there is no TensorFlow which the libraries fit: pip installs none.

    A wheel cannot require "any distribution of TensorFlow", and one that it required by
    name pip would put over the files of another.
    """
    info = read_build_info(PACKAGE_DIR)
    if info is None or importlib.util.find_spec("tensorflow") is not None:
        return
    releases = [*map(minor_release, built_for(info))]
    names = " or ".join(releases)
    raise ModuleNotFoundError(
        f"negative_cosine needs TensorFlow and finds none: install {names}, "
        f'with pip install "tensorflow=={releases[-1]}.*" or another distribution of it, '
        "such as tensorflow-cpu",
        name="tensorflow",
    )


def what_is_there() -> str:
    """What an installation of the NumPy modules alone has, and what it lacks."""
    info = read_build_info(PACKAGE_DIR) or {}
    version = info.get("cuda")
    cuda = f" and negative_cosine._cuda_core (CUDA {version})" if version else ""
    return (
        "negative_cosine was built with NEGATIVE_COSINE_TENSORFLOW=0 and TensorFlow cannot "
        f"be imported: negative_cosine._core (the CPU){cuda} can be imported by name; the "
        "TensorFlow op, its reference and the Keras layers are missing"
    )
