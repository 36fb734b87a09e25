"""One of two processes that fit together, started by test_keras_cross_replica.py."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import tensorflow as tf

TIMEOUT = tf.distribute.experimental.CommunicationOptions(timeout_seconds=60.0)


def main() -> None:
    """Fits, and writes what Keras reported and the weights to the file named."""
    # The strategy has to exist before anything else runs, be it an import's constant.
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=TIMEOUT)
    from tests.keras import test_keras_cross_replica as cross_replica

    name = os.environ[cross_replica.NAME]
    model = cross_replica.compiled_for_workers(strategy, **cross_replica.MODELS[name])
    rows = int(os.environ[cross_replica.NUM_ROWS])
    results: dict[str, Any]
    with strategy.scope():
        results = cross_replica.fit_and_evaluate(model, rows)
    for number, weight in enumerate(model.trainable_variables):
        results[f"weight{number:02}"] = weight.numpy()
    np.savez(sys.argv[1], **results)


if __name__ == "__main__":
    main()
