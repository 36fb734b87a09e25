"""The sampler: the same table everywhere, and as random as a true shuffle."""
