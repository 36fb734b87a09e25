"""Measurements of this package against what it replaces."""
