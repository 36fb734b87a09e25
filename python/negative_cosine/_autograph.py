"""Keeps AutoGraph out of the package's functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import tensorflow as tf

Function = TypeVar("Function", bound=Callable[..., Any])


def without_autograph(function: Function) -> Function:
    """The function, run as it is in a traced ``tf.function`` and all that it calls too.

    No such function branches on a tensor's value, so AutoGraph has nothing to rewrite; and
    it would warn the user of syntax that it does not know.
    """
    return cast(Function, tf.autograph.experimental.do_not_convert(function))
