"""Recommends items to users from a MovieLens-style ratings file.

The file has the columns user, item, rating and timestamp, separated by tabs, commas or
double colons, with or without a header: ml-100k's u.data, ml-1m's ratings.dat and the
newer ratings.csv all read as they are. Each user's latest liked item is held out.

    python -m examples.movielens ratings.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf

from examples.two_tower import Batch, Retrieval, Settings, compare, write

COLUMNS = ["user", "item", "rating", "timestamp"]


def read_ratings(path: Path) -> pd.DataFrame:
    """The four columns of a ratings file."""
    with path.open() as file:
        first = file.readline()
    separator = next((mark for mark in ("::", "\t", ",", ";") if mark in first), None)
    if separator is None or len(first.split(separator)) < len(COLUMNS):
        raise SystemExit(
            f"{path} must have the columns user, item, rating, timestamp separated by a "
            f"tab, ',', ';' or '::', got the first line {first.strip()!r}"
        )
    has_header = not first.split(separator)[2].strip().replace(".", "", 1).isdigit()
    return pd.read_csv(
        path,
        sep=separator,
        engine="python" if len(separator) > 1 else "c",
        names=COLUMNS,
        usecols=range(len(COLUMNS)),
        skiprows=int(has_header),
    )


def make_data(ratings: pd.DataFrame, liked: float) -> Retrieval:
    """Liked pairs in order of time; each user's last one is held out."""
    pairs = ratings[ratings["rating"] >= liked].sort_values("timestamp", kind="stable")
    if pairs.empty:
        raise SystemExit(f"no rating is at least {liked}; choose a lower --liked")
    users = pairs["user"].astype("category").cat.codes.to_numpy(np.int32)
    items = pairs["item"].astype("category").cat.codes.to_numpy(np.int32)
    is_last = ~pairs["user"].duplicated(keep="last").to_numpy()
    training = {"query": users[~is_last], "doc": items[~is_last]}
    counts = np.bincount(training["doc"], minlength=items.max() + 1)
    frequency = (counts + 1) / (counts + 1).sum()
    training["log_q"] = np.log(frequency)[training["doc"]].astype(np.float32)
    return Retrieval(
        pairs=training,
        queries=users[is_last],
        docs=np.arange(items.max() + 1, dtype=np.int32),
        answers=items[is_last],
    )


def make_towers(num_users: int, num_items: int, dim: int) -> tuple[Any, Any]:
    """An embedding of ids and a linear layer on each side."""
    import keras

    def tower(size: int) -> Any:
        ids = keras.Input([], dtype="int32")
        embedded = keras.layers.Embedding(size, dim)(ids)
        return keras.Model(ids, keras.layers.Dense(dim)(embedded))

    return tower(num_users), tower(num_items)


def loss_options(batch: Batch) -> dict[str, tf.Tensor]:
    """A user's other items and a popular item met twice are no negatives; logQ corrects."""
    return {
        "doc_ids": batch["doc"],
        "query_ids": batch["query"],
        "doc_log_q": batch["log_q"],
    }


def main() -> None:
    """Reads the file, trains with each loss, prints the table and writes the curves."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ratings", type=Path)
    parser.add_argument("--liked", type=float, default=4.0, help="lowest rating to learn")
    parser.add_argument("--output", type=Path, default=Path("demo/movielens"))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--num-negatives", type=int, default=50)
    arguments = parser.parse_args()
    data = make_data(read_ratings(arguments.ratings), arguments.liked)
    rows = len(data.pairs["query"])
    if rows < arguments.batch_size:
        parser.error(f"--batch-size must be at most the {rows} training pairs")
    print(
        f"{rows} training pairs, {len(data.queries)} users to find one of {len(data.docs)}"
    )
    settings = Settings(
        batch_size=arguments.batch_size,
        num_negatives=arguments.num_negatives,
        epochs=arguments.epochs,
        dim=64,
    )
    num_users = int(data.queries.max()) + 1
    scores, curves = compare(
        data,
        lambda dim: make_towers(num_users, len(data.docs), dim),
        settings,
        loss_options,
    )
    title = f"Next liked item: the right one of {len(data.docs)}"
    write(scores, curves, arguments.output, title)


if __name__ == "__main__":
    main()
