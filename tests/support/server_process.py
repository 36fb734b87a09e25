"""A process that only serves: a worker or a parameter server of a cluster."""

from __future__ import annotations

import negative_cosine as negative_cosine  # registers the op with this process
import tensorflow as tf


def main() -> None:
    """Serves what TF_CONFIG says, until the process is killed."""
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    tf.distribute.Server(
        resolver.cluster_spec(),
        job_name=resolver.task_type,
        task_index=resolver.task_id,
        protocol=resolver.rpc_layer or "grpc",
    ).join()


if __name__ == "__main__":
    main()
