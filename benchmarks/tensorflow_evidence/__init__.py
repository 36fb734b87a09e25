"""The steps of benchmarks/gpu_tensorflow.py, each a program of its own."""
