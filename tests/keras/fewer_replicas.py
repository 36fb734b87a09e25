"""A process with some replicas that saves or restores, see test_fewer_replicas.py."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def make_strategy(replicas: int) -> Any:
    """So many CPUs; of one replica none, as on a laptop."""
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * replicas,
    )
    if replicas == 1:
        return tf.distribute.get_strategy()
    return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(replicas)])


def save(model: keras.Model, mode: str) -> None:
    """In each way that a user has."""
    model.save(f"{mode}.keras")
    model.save_weights(f"{mode}.weights.h5")
    tf.train.Checkpoint(model=model).write(f"{mode} checkpoint")


def restore(how: str, mode: str, new_model: Any) -> keras.Model:
    """What was saved in one of these ways."""
    if how == "keras":
        return keras.saving.load_model(f"{mode}.keras")
    model = new_model()
    if how == "weights":
        model.load_weights(f"{mode}.weights.h5")
    else:
        status = tf.train.Checkpoint(model=model).read(f"{mode} checkpoint")
        status.assert_existing_objects_matched()
    return model


def held(strategy: Any, model: keras.Model, names: Any) -> dict[str, Any]:
    """The state of the layers, as each replica has it."""
    return {
        weight.name: [*map(np.asarray, strategy.experimental_local_results(weight.value))]
        for weight in model.weights
        if weight.name in names
    }


def main() -> None:
    """Writes what each mode's replicas hold, and what they did, to the file named."""
    replicas, output, how = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    strategy = make_strategy(replicas)
    from tests.keras import test_fewer_replicas as fewer

    results: dict[str, Any] = {}
    for mode, cross_replica in fewer.MODES.items():
        with strategy.scope():
            if how == "save":
                model = fewer.new_model(cross_replica)
            else:
                make = functools.partial(fewer.new_model, cross_replica)
                model = restore(how, mode, make)
        if how == "save":
            model.fit(fewer.data(0, fewer.STEPS), **fewer.RUN)
            save(model, mode)
        for name, value in held(strategy, model, fewer.STATE).items():
            results[f"{mode}/{name}"] = value
        if how != "save":
            history = model.fit(fewer.data(fewer.STEPS, 1), **fewer.RUN).history
            results[f"{mode}/next/loss"] = history["loss"][0]
            for weight in model.trainable_variables:
                results[f"{mode}/next/{weight.path}"] = weight.numpy()
    np.savez(output, **results)


if __name__ == "__main__":
    main()
