"""The CUDA core on NumPy arrays, loaded without TensorFlow."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

# Where it lies on a machine without TensorFlow, on which the package is not installed.
SOURCE_FOLDER = Path(__file__).parent.parent / "python" / "negative_cosine"


class NoDeviceError(RuntimeError):
    """The CUDA core is not built, or finds no device."""


def find_core() -> Path:
    """The extension module's file; importing the package would import TensorFlow."""
    package = importlib.util.find_spec("negative_cosine")
    folders = [SOURCE_FOLDER]
    if package is not None:
        folders = [*map(Path, package.submodule_search_locations or ()), SOURCE_FOLDER]
    files = [file for folder in folders for file in folder.glob("_cuda_core*.so")]
    if not files:
        raise NoDeviceError(
            "no CUDA core: negative_cosine has no _cuda_core here. Install nvcc and build "
            "the package with NEGATIVE_COSINE_CUDA=1"
        )
    return files[0]


def load_core() -> Any:
    """The module ``negative_cosine._cuda_core``, once it has found a device."""
    specification = importlib.util.spec_from_file_location(
        "negative_cosine._cuda_core", find_core()
    )
    assert specification is not None
    assert specification.loader is not None
    try:
        core = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(core)
        core.device_info()
    except (ImportError, RuntimeError) as error:
        raise NoDeviceError(f"the CUDA core does not run here: {error}") from error
    return core
