"""Programs for people who work on the project; no part of the package, and no tests."""
