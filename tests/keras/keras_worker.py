"""One process of a MultiWorkerMirroredStrategy, started by test_keras_replicas.py."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import tensorflow as tf

TIMEOUT = tf.distribute.experimental.CommunicationOptions(timeout_seconds=60.0)


def main() -> None:
    """Trains, and writes this worker's results to the file named on the command line."""
    # The strategy has to exist before anything else runs, be it an import's constant.
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=TIMEOUT)
    from tests.keras import test_keras_replicas as replicas

    model = replicas.compiled(strategy, replicas.MODELS["all"])
    losses = replicas.train_together(strategy, model)
    weights = [weight.numpy() for weight in model.trainable_variables]
    results: dict[str, Any] = {f"weight{n:02}": value for n, value in enumerate(weights)}
    for name in replicas.STATE:
        results[name] = replicas.weight_named(model, name).numpy()
    np.savez(sys.argv[1], losses=losses, **results)


if __name__ == "__main__":
    main()
