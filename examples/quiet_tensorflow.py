"""Imports TensorFlow without its remarks on the machine, which would fill the first page.

They come before TF_CPP_MIN_LOG_LEVEL counts, from C++, and so past ``sys.stderr``. An
import that fails shows all that it said. Examples import this before TensorFlow.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile

STANDARD_ERROR = 2  # the file's number, which C++ writes to


def import_quietly(module: str) -> None:
    """Imports a module; what it writes to the standard error is kept, for a failure."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    usual = os.dup(STANDARD_ERROR)
    with tempfile.TemporaryFile() as remarks:
        os.dup2(remarks.fileno(), STANDARD_ERROR)
        try:
            importlib.import_module(module)
        except BaseException:
            remarks.seek(0)
            os.write(usual, remarks.read())
            raise
        finally:
            os.dup2(usual, STANDARD_ERROR)
            os.close(usual)


import_quietly("tensorflow")
