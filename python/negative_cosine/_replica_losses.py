"""The losses that a layer adds, kept for each replica; a warning where it added none.

Under ``tf.distribute.MirroredStrategy`` each replica runs the same layers in a thread of
its own, one thread at a time. A weight that is aggregated over the replicas, such as
BatchNormalization's moving averages, makes each wait for the others, in the middle of a
model's call. Keras keeps what ``add_loss`` was given in one list a layer: the replicas
then clear each other's losses, and read them as their own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from negative_cosine._keras_environment import keras
from negative_cosine._keras_step import may_be_an_evaluation
from negative_cosine._warnings import warn


class LayerWithLosses(keras.layers.Layer):
    """A layer of which each replica sees the losses that it added itself.

    Keras 3.10 to 3.15 keep a layer's losses in its attribute ``_losses`` alone, and each
    layer reads and clears its own. They ask each for them by ``_get_own_losses``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if "_losses_by_replica" not in self.__dict__:
            warn(
                f"Keras {keras.__version__} does not keep a layer's losses where Keras "
                f"3.10 to 3.15 do: under a tf.distribute strategy {self.name!r} may "
                "add another replica's loss; use one of these releases",
                RuntimeWarning,
            )

    @property
    def _losses(self) -> list[Any]:
        return self._losses_by_replica[_replica()]

    @_losses.setter
    def _losses(self, losses: list[Any]) -> None:
        # Set past Keras, which would track it, and save it, as a part of the model.
        self.__dict__["_losses_by_replica"] = defaultdict(list, {_replica(): losses})
        self.__dict__["_replicas_without_a_loss"] = set()

    def note_whether_a_loss_follows(self, follows: bool) -> None:
        """Remembers a call without one, if a reader may take it for an evaluation."""
        if not follows and may_be_an_evaluation():
            self._replicas_without_a_loss.add(_replica())
        else:
            self._replicas_without_a_loss.discard(_replica())

    def _get_own_losses(self) -> list[Any]:
        losses: list[Any] = super()._get_own_losses()
        if not losses and _replica() in self._replicas_without_a_loss:
            warn(
                f"{type(self).__name__} {self.name!r} added no loss in its last call. It "
                "looked like inference: training was not True, and no caller is named "
                "test_step, or a train_step gave training=False. In an evaluation loop of "
                "your own, name the function that calls the model test_step, or call "
                "negative_cosine.fused_negative_cosine_loss",
                UserWarning,
            )
        return losses


@contextmanager
def other_losses_kept(layer: keras.layers.Layer) -> Iterator[None]:
    """Restores what the model's other layers had added, after the replicas have waited.

    For a layer that makes them wait, within its ``call``: other layers keep the losses of
    all replicas in one list, which each replica clears where its call of the model begins.
    """
    model = layer._get_call_context().entry_layer
    others = [
        other for other in model._flatten_layers() if not isinstance(other, LayerWithLosses)
    ]
    added = [list(other._losses) for other in others]
    yield
    for other, losses in zip(others, added, strict=True):
        other._losses.clear()
        other._losses.extend(losses)


def _replica() -> int:
    """Which replica this is; 0 where there is one, or the code is not a replica's own."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return 0
    # Known while a graph is traced, except where one trace is for all replicas.
    return int(tf.get_static_value(context.replica_id_in_sync_group) or 0)
