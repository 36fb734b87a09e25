"""Recommends items to users from a MovieLens-style ratings file.

The file has the columns user, item, rating and timestamp, separated by tabs, blanks,
commas, semicolons or double colons, with or without a header: ml-100k's u.data, ml-1m's
ratings.dat and the newer ratings.csv all read as they are. Each user's latest liked item is
held out, and looked for among the items that the user was not trained on.

    python -m examples.movielens ratings.csv
"""

from __future__ import annotations

import examples.quiet_tensorflow  # noqa: F401 (before TensorFlow)

# isort: split
import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from examples.losses import InBatchSoftmax, LossFunction, ThisLoss
from examples.scores import write
from examples.two_tower import Array, Retrieval, Settings, compare

COLUMNS = ["user", "item", "rating", "timestamp"]
SEPARATORS = ("::", "\t", ",", ";", None)  # None: blanks, as many as there are
NOT_FOUND = ""

# Arguments of this loss, and the columns of a batch that they are: an item or a user that
# a batch holds twice is no negative of itself.
IDS = {"doc_ids": "doc", "query_ids": "query"}
LOG_Q = {"doc_log_q": "log_q"}  # of popular items as negatives, which are met more often


def read_ratings(path: Path) -> pd.DataFrame:
    """The four columns of a ratings file."""
    with path.open() as file:
        first = file.readline()
    refused = SystemExit(
        f"{path} must have the columns user, item, rating, timestamp, the last two "
        "numbers, separated by a tab, blanks, ',', ';' or '::', got the first line "
        f"{first.strip()!r}"
    )
    separators = (mark for mark in SEPARATORS if len(first.split(mark)) >= len(COLUMNS))
    separator = next(separators, NOT_FOUND)
    if separator == NOT_FOUND:
        raise refused
    has_header = not first.split(separator)[2].strip().replace(".", "", 1).isdigit()
    ratings = pd.read_csv(
        path,
        sep=separator or r"\s+",
        engine="python" if separator == "::" else "c",
        names=COLUMNS,
        usecols=range(len(COLUMNS)),
        skiprows=int(has_header),
    )
    if ratings.empty or not all(map(is_numeric_dtype, ratings[COLUMNS[2:]].dtypes)):
        raise refused
    return ratings


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
        known=known_items(training, users[is_last], items[is_last]),
    )


def known_items(training: dict[str, Array], users: Array, answers: Array) -> Array:
    """``[len(users), most]``: what each user was trained on, filled up with the answer."""
    of_user = pd.Series(training["doc"]).groupby(training["query"]).agg(list)
    rows = [of_user.get(user, []) for user in users]
    most = max(map(len, rows), default=0)
    filled = [
        [*row, *[answer] * (most - len(row))]
        for row, answer in zip(rows, answers, strict=True)
    ]
    return np.array(filled, np.int32).reshape(len(users), most)


def make_towers(num_users: int, num_items: int, dim: int) -> tuple[Any, Any]:
    """An embedding of ids on each side."""
    import keras

    def tower(size: int) -> Any:
        ids = keras.Input([], dtype="int32")
        return keras.Model(ids, keras.layers.Embedding(size, dim)(ids))

    return tower(num_users), tower(num_items)


def losses(num_negatives: int) -> dict[str, LossFunction]:
    """What is compared: with and without the correction of popular items by logQ."""

    def of_sampler(sampler: str, columns: dict[str, str], **options: Any) -> ThisLoss:
        number = None if sampler == "all" else num_negatives
        return ThisLoss(number, IDS | columns, {"sampler": sampler, **options})

    ids = tuple(IDS.values())
    return {
        "this loss, shuffle": of_sampler("shuffle", {}),
        "this loss, shuffle, logQ": of_sampler("shuffle", LOG_Q),
        "this loss, shuffle, logQ, weight auto": of_sampler(
            "shuffle", LOG_Q, negative_weight="auto"
        ),
        "this loss, ring, logQ": of_sampler("ring", LOG_Q),
        "this loss, all": of_sampler("all", {}),
        "this loss, all, logQ": of_sampler("all", LOG_Q),
        "in-batch softmax": InBatchSoftmax(ids=ids),
        "in-batch softmax, logQ": InBatchSoftmax(ids=ids, log_q="log_q"),
    }


def main() -> None:
    """Reads the file, trains with each loss, prints the table and writes the curves."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ratings", type=Path)
    parser.add_argument("--liked", type=float, default=4.0, help="lowest rating to learn")
    parser.add_argument("--output", type=Path, default=Path("demo/movielens"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--num-negatives", type=int, default=20)
    parser.add_argument("--dim", type=int, default=64, help="of the embeddings")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
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
        epochs=arguments.epochs,
        dim=arguments.dim,
        learning_rate=arguments.learning_rate,
        seeds=arguments.seeds,
    )
    num_users = int(data.queries.max()) + 1
    scores, curves = compare(
        data,
        lambda dim: make_towers(num_users, len(data.docs), dim),
        settings,
        losses(arguments.num_negatives),
    )
    title = (
        f"Next liked item: the right one of {len(data.docs)}, K = "
        f"{arguments.num_negatives}, {arguments.epochs} epochs"
    )
    write(scores, curves, arguments.output, title)


if __name__ == "__main__":
    main()
