"""Warnings that name the line of the user's code from which this package was called.

Between that line and this package there may be TensorFlow's tracing, a call of Keras, and
what AutoGraph made of the user's function. The number of these frames varies, so that
``stacklevel`` of ``warnings.warn`` cannot be used.
"""

from __future__ import annotations

import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

_FRAMEWORKS = ("tensorflow", "keras", "tf_keras")
_STANDARD_LIBRARY = f"{sysconfig.get_path('stdlib')}/"
_INSTALLED = ("/site-packages/", "/dist-packages/")  # which may lie inside of it
# AutoGraph names so what it writes to a temporary folder.
_REWRITTEN = "__autograph_generated_file"


def warn(message: str, category: type[Warning]) -> None:
    """Warns, naming the innermost line of the user's own code."""
    frame = _users_frame()
    warnings.warn_explicit(
        message,
        category,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _users_frame() -> FrameType:
    """The innermost frame that is not in a package.

    In a thread of a strategy there may be none. There it is the user's function as
    AutoGraph wrote it.
    """
    folders = _folders()
    frames = [frame for frame in _callers() if not _file(frame).startswith(folders)]
    users = [frame for frame in frames if not _is_python_or_rewritten(_file(frame))]
    return (users or frames or [sys._getframe()])[0]


def _callers() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _file(frame: FrameType) -> str:
    return frame.f_code.co_filename


def _folders() -> tuple[str, ...]:
    """Where this package and the frameworks lie, as far as they are imported."""
    modules = (sys.modules.get(name) for name in _FRAMEWORKS)
    files = (__file__, *(module.__file__ for module in modules if module))
    return tuple(f"{Path(file).parent}/" for file in files if file)


def _is_python_or_rewritten(file: str) -> bool:
    if Path(file).name.startswith(_REWRITTEN) or file.startswith("<frozen "):
        return True
    is_installed = any(folder in file for folder in _INSTALLED)
    return file.startswith(_STANDARD_LIBRARY) and not is_installed
