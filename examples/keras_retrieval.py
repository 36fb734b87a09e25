"""Trains two towers the plain Keras way: functional model, compile, fit, evaluate.

The data is made up: documents whose popularity follows Zipf's law, and queries that are
noisy pictures of what they look for. The loss is a layer of the model. On the way to it
the documents' frequencies are estimated for logQ correction; with --queue the latest
documents of earlier batches become further candidates.

    python -m examples.keras_retrieval
"""

from __future__ import annotations

import examples.quiet_tensorflow  # noqa: F401 (before TensorFlow)

# isort: split
import argparse
from typing import Any

import keras
import numpy as np
from negative_cosine import DocumentFrequency, DocumentQueue, NegativeCosineLoss
from numpy.typing import NDArray
from tqdm.keras import TqdmCallback

Array = NDArray[Any]

NUM_DOCS, FEATURES, NOISE = 2000, 32, 2.0


def make_pairs(rows: int, seed: int) -> dict[str, Array]:
    """Queries ``[rows, FEATURES]`` and the ids of the documents that they look for."""
    looks = np.random.default_rng(0).normal(size=(NUM_DOCS, FEATURES))
    popularity = 1 / np.arange(1, NUM_DOCS + 1)
    random = np.random.default_rng(seed)
    doc_ids = random.choice(NUM_DOCS, rows, p=popularity / popularity.sum())
    query = looks[doc_ids] + NOISE * random.normal(size=(rows, FEATURES))
    return {"query": query.astype(np.float32), "doc_ids": doc_ids}


def make_model(num_negatives: int, queue_size: int, dim: int) -> keras.Model:
    """Both towers and the loss; its outputs are the embeddings."""
    query = keras.Input([FEATURES], name="query")
    doc_ids = keras.Input([], dtype="int64", name="doc_ids")
    hidden = keras.layers.Dense(2 * dim, activation="relu")(query)
    query_embedding = keras.layers.Dense(dim, name="query_tower")(hidden)
    doc_embedding = keras.layers.Embedding(NUM_DOCS, dim, name="doc_tower")(doc_ids)
    candidates = {
        "doc": doc_embedding,
        "doc_ids": doc_ids,
        "doc_log_q": DocumentFrequency(num_buckets=2**16)(doc_ids),
    }
    if queue_size:
        candidates = DocumentQueue(queue_size)(candidates)
    loss = NegativeCosineLoss(num_negatives, learn_temperature=True, recall_at=(5,))
    outputs = loss({"query": query_embedding, **candidates})
    return keras.Model({"query": query, "doc_ids": doc_ids}, outputs)


def main() -> None:
    """Trains, and prints the metrics of held-out pairs before and after."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000, help="training pairs")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--num-negatives", type=int, default=50)
    parser.add_argument("--queue", type=int, default=0, help="earlier documents to keep")
    parser.add_argument("--dim", type=int, default=64)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    training, held_out = make_pairs(arguments.rows, seed=1), make_pairs(5_000, seed=2)
    model = make_model(arguments.num_negatives, arguments.queue, arguments.dim)
    model.compile(keras.optimizers.Adam(3e-3))

    def judge() -> dict[str, float]:
        scores: dict[str, float] = model.evaluate(
            held_out, batch_size=arguments.batch_size, verbose=0, return_dict=True
        )
        return scores

    before = judge()
    model.fit(
        training,
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        verbose=0,
        callbacks=[TqdmCallback(verbose=0, desc="training")],
    )
    after = judge()
    print(f"{len(held_out['query'])} held-out pairs, K={arguments.num_negatives}")
    print(f"{'metric':<24}{'untrained':>10}{'trained':>10}")
    for name in before:
        print(f"{name:<24}{before[name]:>10.3f}{after[name]:>10.3f}")


if __name__ == "__main__":
    main()
