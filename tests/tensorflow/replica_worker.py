"""One process of a MultiWorkerMirroredStrategy, started by test_replicas.py."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import tensorflow as tf

SIZES = [(4, 6), (1, 2)]
NAMES = ("query", "doc", "doc_log_q", "query_ids")
TIMEOUT = tf.distribute.experimental.CommunicationOptions(timeout_seconds=60.0)


def main() -> None:
    """Writes this worker's results to the file named on the command line."""
    # The strategy has to exist before anything else runs, be it an import's constant.
    strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=TIMEOUT)
    from tests.support.joined_batch import random_part, run_on_replicas

    parts = [random_part(own, "float32", replica) for replica, own in enumerate(SIZES)]
    parts = [{name: part[name] for name in NAMES} for part in parts]
    results: dict[str, Any]
    (results,) = run_on_replicas(strategy, parts, "graph", sampler="all")
    np.savez(sys.argv[1], **results)


if __name__ == "__main__":
    main()
