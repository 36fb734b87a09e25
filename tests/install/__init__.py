"""Builds, wheels and installations: what they hold, and how the library is loaded."""
