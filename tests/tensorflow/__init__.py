"""The loss inside TensorFlow: graphs, XLA, devices, replicas, threads, programs."""
