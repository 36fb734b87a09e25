"""Models that train with this package's loss on real data."""
