"""The benchmarks: what they compute, measure, leave out and report."""
