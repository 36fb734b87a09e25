"""The kind of device on which TensorFlow would put an op here.

It is read from the device scopes. To create an op and ask for its device would leave that
op in every graph, and cost an eager call microseconds. TensorFlow has no public function
for this.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.eager import context

_FOR_TPUS = (tf.distribute.TPUStrategy, tf.distribute.experimental.TPUStrategy)


def device_in_use() -> str:
    """Such as "CPU", "GPU" or "TPU", by the scopes of ``tf.device`` and the strategy."""
    visible = {device.device_type for device in tf.config.list_logical_devices()}
    asked = _asked_for()
    if "TPU" in visible and _is_on_tpus_by_strategy(asked):
        return "TPU"
    if not asked:
        return "GPU" if "GPU" in visible else "CPU"
    # TensorFlow takes the CPU for a device that is missing. A graph may run elsewhere: for
    # "GPU" its op runs on a GPU or the CPU, for another missing device on neither.
    is_certain = asked == "GPU" or tf.executing_eagerly()
    return "CPU" if is_certain and asked not in visible else asked


def _is_on_tpus_by_strategy(asked: str) -> bool:
    """Whether a strategy puts an op on a TPU: a replica's it does whatever is asked."""
    if not isinstance(tf.distribute.get_strategy(), _FOR_TPUS):
        return False
    return not asked or not tf.distribute.in_cross_replica_context()


def _asked_for() -> str:
    """The kind of device that the innermost scope requests, "" where none does."""
    if not tf.executing_eagerly():
        scopes = [_device_in(graph) for graph in _graphs()]
        # A scope for a job alone names no device: eager calls take the CPU, graphs do not.
        if any(scopes) or not tf.compat.v1.executing_eagerly_outside_functions():
            return next(filter(None, map(_kind, scopes)), "")
    return _kind(context.context().device_name)


def _graphs() -> Iterator[Any]:
    """The graph of this function, then of its callers, who say what it leaves open."""
    graph = tf.compat.v1.get_default_graph()
    while graph is not None:
        yield graph
        graph = getattr(graph, "outer_graph", None)


def _device_in(graph: Any) -> str:
    """The device that a graph would give to the op."""
    op = _Unplaced()
    graph._apply_device_functions(op)
    return op.device


class _Unplaced:
    """What TensorFlow's device functions read and write of an op."""

    type = "NegativeCosineLoss"

    def __init__(self) -> None:
        self.device = ""
        self.name = self.type
        self.node_def = tf.compat.v1.NodeDef(name=self.name, op=self.type)
        self.inputs = self.outputs = self.control_inputs = ()
        self.graph = tf.compat.v1.get_default_graph()

    def _set_device_from_string(self, device: str) -> None:
        self.device = device


@functools.cache
def _kind(device: str) -> str:
    kind = tf.DeviceSpec.from_string(device).device_type or ""
    return "TPU" if kind.startswith("TPU") else str(kind)  # TPU_REPLICATED_CORE too
