"""The examples on small data: from files to the table and the picture."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from examples import code_search, movielens, two_tower
from tests.support.checkout import ROOT

SOURCE = '''
class Stack:
    """A last-in, first-out container.

    More words.
    """

    def push(self, item):
        """Adds an item at the end."""
        self.items.append(item)
        return self.items

    def undocumented(self):
        return self.items[::-1] + [None] * 100
'''


def run(*arguments: str, cwd: Path = ROOT) -> str:
    """Runs an example as a user does."""
    result = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_pair_is_a_docstrings_first_line_and_the_source_without_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "stack.py"
    file.write_text(SOURCE)
    pairs = {pair.line: pair.code for pair in code_search.pairs_of_file(file)}
    assert set(pairs) == {"A last-in, first-out container.", "Adds an item at the end."}
    assert pairs["Adds an item at the end."].split("\n") == [
        "    def push(self, item):",
        "        self.items.append(item)",
        "        return self.items",
    ]
    assert "More words" not in pairs["A last-in, first-out container."]


def test_a_file_that_does_not_parse_has_no_pairs(tmp_path: Path) -> None:
    file = tmp_path / "old.py"
    file.write_text("print 'python 2'")
    assert code_search.pairs_of_file(file) == []


def test_subwords_split_snake_and_camel_case() -> None:
    words = list(code_search.subwords("getHTTPResponse(my_value, 3)"))
    assert words == ["get", "http", "response", "my", "value"]


def test_no_file_is_in_both_parts() -> None:
    pairs = [
        code_search.Pair(f"line {i}", f"code {i}", f"/lib/{i % 50}.py") for i in range(500)
    ]
    held_out = {pair.file for pair in pairs if code_search.is_held_out(pair)}
    training = {pair.file for pair in pairs if not code_search.is_held_out(pair)}
    assert held_out
    assert not held_out & training


def test_code_search_trains_and_ends_with_the_table_and_the_curves(tmp_path: Path) -> None:
    standard = Path(sysconfig.get_paths()["stdlib"])
    folders = [standard / name for name in ("asyncio", "email", "unittest")]
    files = [path for folder in folders for path in folder.glob("*.py")]
    pairs = code_search.parse(sorted(files))
    assert len(pairs) > 300
    cache = tmp_path / "pairs.json"
    cache.write_text(json.dumps(pairs))
    output = run(
        "examples.code_search",
        *("--cache", str(cache), "--output", str(tmp_path)),
        *("--epochs", "2", "--batch-size", "64", "--num-negatives", "8"),
    )
    for name in ("untrained", "printed loss", "shuffle, K=8", "full in-batch"):
        assert name in output
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores["steps"].iloc[0] == 0
    assert scores["steps"][1:].nunique() == 1
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_keras_retrieval_trains_and_prints_its_metrics() -> None:
    output = run(
        "examples.keras_retrieval",
        *("--rows", "4000", "--epochs", "3", "--batch-size", "200"),
        *("--num-negatives", "20", "--queue", "100"),
    )
    (line,) = [line for line in output.splitlines() if "in_batch_accuracy" in line]
    untrained, trained = (float(number) for number in re.findall(r"\d\.\d+", line))
    assert trained > untrained + 0.1


def test_vector_index_measures_what_the_indexes_miss(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    files = tmp_path / "scores.csv", tmp_path / "graph.index"
    output = run(
        "examples.vector_index",
        *("--docs", "3000", "--queries", "100", "--epochs", "1", "--dim", "16"),
        *("--results", str(files[0]), "--index", str(files[1])),
    )
    assert "val_recall_at_10" in output
    recalls = pd.read_csv(files[0]).set_index("search")["recall@10"]
    assert recalls["top_documents, exact"] == 1
    assert recalls["HNSW, efSearch=256"] > 0.95
    assert recalls["IVF, nprobe=1"] < recalls["IVF, nprobe=32"] < 1
    assert files[1].stat().st_size > 3000 * 16 * 4


SETTINGS = two_tower.Settings(num_negatives=3)
LOSSES = two_tower.losses(SETTINGS, lambda batch: {"doc_ids": batch["doc_ids"]})


def evaluate(loss: two_tower.LossFunction, sample_weight: Any) -> float:
    """What Keras reports of a model of the examples, for weights that it was given."""
    pairs: dict[str, Any] = {
        name: np.random.default_rng(0).normal(size=(8, 4)) for name in ("query", "doc")
    }
    towers = keras.layers.Dense(4), keras.layers.Dense(4)
    model = two_tower.TwoTower(*towers, loss)
    model.compile("sgd")
    pairs["doc_ids"] = np.arange(8)
    # Keras drops weights where there is no y.
    return float(model.evaluate(pairs, np.zeros(8), sample_weight=sample_weight, verbose=0))


@pytest.mark.filterwarnings("ignore:NegativeCosineLayer computes")
@pytest.mark.parametrize("name", LOSSES)
def test_a_model_of_the_examples_heeds_weights_or_refuses_them(name: str) -> None:
    assert evaluate(LOSSES[name], None) > 0
    if name.startswith("this loss"):
        assert evaluate(LOSSES[name], np.zeros(8)) == 0
        return
    with pytest.raises(ValueError, match="this loss takes no sample_weight; leave it out"):
        evaluate(LOSSES[name], np.zeros(8))


def ratings(users: int = 60, items: int = 30) -> pd.DataFrame:
    """Two groups of users, each fond of its own half of the items."""
    random = np.random.default_rng(0)
    rows = [
        (
            user,
            2 * int(random.integers(items // 2)) + user % 2,
            5 if n else 1,
            100 * user + n,
        )
        for user in range(1, users + 1)
        for n in range(12)
    ]
    return pd.DataFrame(rows, columns=movielens.COLUMNS)


@pytest.mark.parametrize(
    ("separator", "header"), [("\t", False), ("::", False), (",", True)]
)
def test_every_layout_of_a_ratings_file_reads_the_same(
    separator: str, header: bool, tmp_path: Path
) -> None:
    table = ratings()
    lines = [separator.join(str(value) for value in row) for row in table.to_numpy()]
    if header:
        lines.insert(0, separator.join(["userId", "movieId", "rating", "timestamp"]))
    file = tmp_path / "ratings"
    file.write_text("\n".join(lines) + "\n")
    pd.testing.assert_frame_equal(movielens.read_ratings(file), table, check_dtype=False)


def test_a_users_last_liked_item_is_held_out() -> None:
    data = movielens.make_data(ratings(), liked=4.0)
    assert len(data.queries) == 60
    assert len(data.pairs["query"]) == 60 * 10  # 12, less the disliked and the last one


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text("not ratings\n")
    with pytest.raises(SystemExit, match="must have the columns user, item, rating"):
        movielens.read_ratings(file)


def test_movielens_trains_on_a_file(tmp_path: Path) -> None:
    file = tmp_path / "ratings.csv"
    ratings().to_csv(file, index=False)
    output = run(
        "examples.movielens",
        str(file),
        *("--output", str(tmp_path), "--epochs", "8"),
        *("--batch-size", "100", "--num-negatives", "10"),
    )
    assert "600 training pairs, 60 users to find one of" in output
    scores = pd.read_csv(tmp_path / "scores.csv").set_index("model")
    fused = scores.loc["this loss, shuffle, K=10"]
    assert fused["mrr"] > scores.loc["untrained", "mrr"]
