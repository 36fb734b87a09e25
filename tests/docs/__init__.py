"""The documents and the examples are true: their code runs, their tables are right."""
