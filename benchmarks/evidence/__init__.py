"""The steps of benchmarks/gpu_evidence.py, each a program of its own."""
