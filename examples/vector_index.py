"""Exports the document tower's rows to a FAISS index, and measures what the index misses.

Two towers are trained on made-up pairs. The document tower then embeds a catalogue once,
and the rows go to two indexes: a graph (HNSW), and cells of which a query visits a few
(IVF). ``top_documents`` gives the exact answer; the recall is the share of it that an index
finds too.

    pip install faiss-cpu
    python -m examples.vector_index
"""

from __future__ import annotations

import examples.quiet_tensorflow  # noqa: F401 (before TensorFlow)

# isort: split
import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from negative_cosine import NegativeCosineLoss, RetrievalMetrics, top_documents
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

Array = NDArray[Any]
Search = Callable[[], Array]  # the rows of the K best, [queries, K]

FEATURES, NOISE = 32, 0.5
K = 10
NEIGHBOURS = 32  # of a document in the graph
EFFORTS = (16, 64, 256)  # documents that a search of the graph keeps in view
VISITED = (1, 8, 32)  # cells


def make_catalogue(docs: int, queries: int) -> tuple[Array, Array, Array]:
    """Documents' features, queries' features, and the row of each query's document."""
    random = np.random.default_rng(0)
    doc = random.normal(size=(docs, FEATURES)).astype(np.float32)
    own = random.integers(docs, size=queries)
    noise = random.normal(size=(queries, FEATURES)).astype(np.float32)
    return doc, doc[own] + NOISE * noise, own


def train_towers(
    query: Array, doc: Array, dim: int, epochs: int
) -> tuple[keras.Model, keras.Model]:
    """Two towers, trained so that a query is near its document."""
    keras.utils.set_random_seed(0)
    inputs = [keras.Input([FEATURES], name=name) for name in ("query", "doc")]
    outputs = [keras.layers.Dense(dim, use_bias=False)(part) for part in inputs]
    model = keras.Model(inputs, NegativeCosineLoss(50)(outputs))
    model.compile(keras.optimizers.Adam(3e-3))
    query_tower, doc_tower = map(keras.Model, inputs, outputs)
    held_out = slice(-500, None)
    metrics = RetrievalMetrics(
        query_tower, doc_tower, query[held_out], doc[held_out], corpus=doc
    )
    pairs = [query[:-500], doc[:-500]]
    model.fit(pairs, batch_size=512, epochs=epochs, callbacks=[metrics])
    return query_tower, doc_tower


def unit_rows(tower: keras.Model, features: Array) -> Array:
    """Embeddings of length 1: their inner products, which an index has, are cosines."""
    rows = tower.predict(features, batch_size=4096, verbose=0)
    unit: Array = tf.math.l2_normalize(rows, axis=1).numpy()
    return unit


def make_graph(rows: Array) -> faiss.IndexHNSWFlat:
    """An index that walks from neighbour to neighbour."""
    index = faiss.IndexHNSWFlat(rows.shape[1], NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    index.add(rows)
    return index


def make_cells(rows: Array) -> faiss.IndexIVFFlat:
    """An index of cells; 4 sqrt(N) of them is FAISS's advice for up to a million rows."""
    dim, cells = rows.shape[1], int(4 * np.sqrt(len(rows)))
    inner_product = faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, inner_product)
    index.train(rows)
    index.add(rows)
    return index


def searches(
    query: Array, rows: Array, graph: faiss.IndexHNSWFlat, cells: faiss.IndexIVFFlat
) -> Iterator[tuple[str, Search]]:
    """Every way to find the rows of the K best, by its name; the exact one first."""
    yield "top_documents, exact", lambda: top_documents(query, rows, K)[1].numpy()

    def search(index: faiss.Index) -> Search:
        return lambda: index.search(query, K)[1]

    for effort in EFFORTS:
        graph.hnsw.efSearch = effort
        yield f"HNSW, efSearch={effort}", search(graph)
    for visited in VISITED:
        cells.nprobe = visited
        yield f"IVF, nprobe={visited}", search(cells)


def recall(found: Array, exact: Array) -> float:
    """The share of the exact answers that were found."""
    pairs = zip(found, exact, strict=True)
    return float(np.mean([np.isin(right, row).mean() for row, right in pairs]))


def measure(query: Array, ways: Iterator[tuple[str, Search]]) -> Iterator[dict[str, str]]:
    """A row for each search; the first is the exact one."""
    exact: Array | None = None
    for name, search in ways:
        search()  # warms up
        start = time.perf_counter()
        found = search()
        milliseconds = 1e3 * (time.perf_counter() - start) / len(query)
        exact = found if exact is None else exact
        yield {
            "search": name,
            f"recall@{K}": f"{recall(found, exact):.3f}",
            "ms a query": f"{milliseconds:.3f}",
        }


def show(results: pd.DataFrame, title: str) -> None:
    """Prints the table."""
    table = Table(title=title)
    for column in results.columns:
        table.add_column(column, justify="left" if column == "search" else "right")
    for row in results.to_numpy():
        table.add_row(*row)
    Console(width=100).print(table)


def main() -> None:
    """Trains, fills the indexes, and prints recall and time of each search."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--docs", type=int, default=100_000, help="of the catalogue")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--results", type=Path, help="a CSV of the table")
    parser.add_argument("--index", type=Path, help="a file for the graph")
    arguments = parser.parse_args()
    doc, query, own = make_catalogue(arguments.docs, arguments.docs // 2)
    towers = train_towers(query, doc[own], arguments.dim, arguments.epochs)
    queries = unit_rows(towers[0], query[: arguments.queries])
    rows = unit_rows(towers[1], doc)
    graph, cells = make_graph(rows), make_cells(rows)
    results = pd.DataFrame(measure(queries, searches(queries, rows, graph, cells)))
    show(results, f"{K} of {len(rows):,} documents for {len(queries):,} queries")
    if arguments.results:
        results.to_csv(arguments.results, index=False)
    if arguments.index:
        faiss.write_index(graph, str(arguments.index))


if __name__ == "__main__":
    main()
