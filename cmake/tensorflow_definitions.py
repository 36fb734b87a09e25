"""Prints CMake's variables that say how TensorFlow was compiled, and where it is, as JSON.

setup.py runs it with the Python of each TensorFlow that it builds libraries for.
"""

import json

import tensorflow as tf


def definitions() -> dict[str, str]:
    """What cmake/tensorflow.cmake reads."""
    flags = tf.sysconfig.get_compile_flags()
    standards = [flag.split("++")[1] for flag in flags if flag.startswith("--std=c++")]
    return {
        "TENSORFLOW_VERSION": tf.__version__,
        "TENSORFLOW_INCLUDE_DIR": tf.sysconfig.get_include(),
        "TENSORFLOW_LIBRARY_DIR": tf.sysconfig.get_lib(),
        "TENSORFLOW_DEFINITIONS": ";".join(f[2:] for f in flags if f.startswith("-D")),
        "TENSORFLOW_CXX_STANDARD": standards[0] if standards else "17",
    }


print(json.dumps(definitions()))
