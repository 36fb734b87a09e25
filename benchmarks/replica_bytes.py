"""What candidates of other replicas cost a device: a simulation that counts bytes.

Each replica has B pairs of D numbers. It needs documents of the others, and sends their
gradients back. Four plans, of which the first is what the package does:

- gather: a ring all-gather of all documents; their gradients are summed on every replica,
  by a ring all-reduce, which is what TensorFlow makes of the gradient of its all-gather;
- scatter: the same all-gather; each replica gets the sums for its own documents alone;
- ring: the sampler "ring" over all documents in a random order; a replica receives only
  the documents that its queries meet;
- blocks: the same where the ring has each replica's documents beside each other.

    python -m benchmarks.replica_bytes --output benchmarks/results/replica_bytes.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.report import Record
from benchmarks.tables import print_table

Counts = npt.NDArray[np.int64]

REPLICAS = tuple(2**power for power in range(1, 11))
ROWS, DIM, NEGATIVES, BYTES = 1024, 128, 100, 4
COLUMNS = (
    "replicas",
    *("gather", "scatter", "ring", "blocks"),
    *("memory: gather", "ring", "blocks"),
)


def pass_around(blocks: Counts) -> Counts:
    """What each device receives until all have every device's block, passed on and on.

    In each round a device receives from the one before it what that received last.
    """
    received = np.zeros_like(blocks)
    held = blocks
    for _ in range(len(blocks) - 1):
        held = np.roll(held, 1)
        received += held
    return received


def ring_of_documents(replicas: int, rows: int, seed: int) -> Counts:
    """The owner of each document, in a random order of all."""
    owners = np.repeat(np.arange(replicas), rows)
    return np.random.default_rng(seed).permutation(owners)


def blocks_of_documents(replicas: int, rows: int, seed: int) -> Counts:
    """The owner of each document, in a random order of the replicas."""
    return np.repeat(np.random.default_rng(seed).permutation(replicas), rows)


def foreign_documents(owners: Counts, negatives: int) -> Counts:
    """How many documents of others each replica's queries meet together.

    A query meets those that follow its own document on the ring. What lies between a
    document and the replica's next one is met by the query of the first alone.
    """
    by_owner = np.argsort(owners, kind="stable")
    rows = len(owners) // (owners.max() + 1)
    places = by_owner.reshape(-1, rows)
    following = np.roll(places, -1, axis=1)
    between = (following - places - 1) % len(owners)
    return np.minimum(between, negatives).sum(axis=1)


def simulate(
    replicas: int,
    rows: int = ROWS,
    dim: int = DIM,
    negatives: int = NEGATIVES,
    seed: int = 0,
) -> Record:
    """Bytes received in a step by the device that receives most, and bytes it holds.

    A step receives documents, then gradients; it holds both. The gradients of a ring's
    documents go back the way that the documents came, so that this way counts twice.
    """
    row_bytes = dim * BYTES
    gather = pass_around(np.full(replicas, rows * row_bytes))
    # Of an all-reduce each device passes on one of N parts of the sum a round: first to add
    # up, then to spread the sums. A part is as large as a replica's documents.
    scatter = pass_around(np.full(replicas, rows * row_bytes))
    spread = pass_around(np.full(replicas, rows * row_bytes))
    record: dict[str, Any] = {
        "replicas": replicas,
        "rows": rows,
        "dim": dim,
        "negatives": negatives,
        "gather": int((gather + scatter + spread).max()),
        "scatter": int((gather + scatter).max()),
        "gather_memory": 2 * replicas * rows * row_bytes,
    }
    for name, order in (("ring", ring_of_documents), ("blocks", blocks_of_documents)):
        met = int(foreign_documents(order(replicas, rows, seed), negatives).max())
        record[name] = 2 * met * row_bytes
        record[f"{name}_memory"] = 2 * (rows + met) * row_bytes
    return record


def megabytes(count: float) -> str:
    """As the page shows bytes."""
    return f"{count / 1e6:,.1f} MB"


def cells(record: Record) -> list[str]:
    """A row of the page's table."""
    names = ("gather", "scatter", "ring", "blocks")
    memory = ("gather_memory", "ring_memory", "blocks_memory")
    return [str(record["replicas"]), *(megabytes(record[name]) for name in names + memory)]


def main(words: Sequence[str] | None = None) -> None:
    """Counts, prints and, where asked to, writes a CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="the CSV to write")
    arguments = parser.parse_args(words)
    records = [simulate(replicas) for replicas in REPLICAS]
    title = f"Bytes a device receives in a step, B={ROWS}, D={DIM}, K={NEGATIVES}, float32"
    print_table(title, COLUMNS, map(cells, records))
    if arguments.output:
        pd.DataFrame(records).to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
