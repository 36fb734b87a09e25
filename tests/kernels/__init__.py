"""The kernels on NumPy arrays, without TensorFlow, on the core that --core names."""
