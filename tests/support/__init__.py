"""What the tests of several folders share: batches, the float64 oracle, cores, copies."""
