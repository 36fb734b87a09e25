"""Steps of a loop of one's own: in functions of these names a layer adds its loss."""

from __future__ import annotations

from typing import Any


def train_step(layer: Any, inputs: Any, **arguments: Any) -> Any:
    """A call of a layer or model while one trains it."""
    return layer(inputs, training=True, **arguments)


def test_step(layer: Any, inputs: Any, **arguments: Any) -> Any:
    """A call of a layer or model while one judges it."""
    return layer(inputs, training=False, **arguments)


def loss_of(layer: Any, inputs: Any) -> Any:
    """The one loss that a call adds in an evaluation."""
    test_step(layer, inputs)
    (loss,) = layer.losses
    return loss
