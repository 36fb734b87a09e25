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
from negative_cosine import fused_negative_cosine_loss

from examples import code_search, losses, movielens, scores, two_tower
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
        *("--seeds", "0", "1", "--losses", *DEMO),
    )
    for name in ("untrained", *DEMO, "K = 8"):
        assert name in output
    found = pd.read_csv(tmp_path / "scores.csv")
    assert list(found["seed"]) == [0] * 4 + [1] * 4
    trained = found[found["model"].isin(DEMO)]
    assert trained["steps"].nunique() == 1
    assert (trained["mrr_at_equal_time"] <= trained["mrr"].max()).all()
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_a_name_that_is_none_of_the_losses_is_refused_with_those_that_are(
    tmp_path: Path,
) -> None:
    (tmp_path / "pairs.json").write_text(json.dumps([["a line", "some code", "/a/b.py"]]))
    with pytest.raises(
        AssertionError, match=r"there is no loss 'ring'; there are .*margin 0\.4"
    ):
        run("examples.code_search", "--cache", f"{tmp_path}/pairs.json", "--losses", "ring")


SMALL: Any = (
    np.random.default_rng(1).normal(size=(8, 4)).astype("float32"),
    np.random.default_rng(2).normal(size=(8, 4)).astype("float32"),
    {
        "ids": np.array([0, 1, 2, 3, 4, 5, 0, 7]),
        "log_q": np.linspace(-3, 0, 8, dtype=np.float32),
    },
)
DEMO = ["article's printed loss", "this loss, ring, weight auto", "in-batch softmax"]


def curves_and_scores(times: dict[str, float]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two epochs of losses that take so many seconds in all; MRR is the epoch over 10."""
    curves = [
        {"model": name, "seed": 0, "epoch": epoch, "mrr": epoch / 10}
        for name in times
        for epoch in range(3)
    ]
    rows = [{"model": name, "seed": 0, "loss_s": time} for name, time in times.items()]
    return pd.DataFrame(rows), pd.DataFrame(curves)


def test_scores_at_equal_time_are_those_of_the_time_of_this_packages_first_loss() -> None:
    times = {"quick": 1.0, "this loss, shuffle": 2.0, "this loss, all": 4.0, "slow": 8.0}
    found = scores.add_scores_at_equal_time(*curves_and_scores(times))
    assert list(found["mrr_at_equal_time"]) == pytest.approx([0.2, 0.2, 0.1, 0.05])


def test_without_a_loss_of_this_package_no_time_is_equal() -> None:
    found = scores.add_scores_at_equal_time(*curves_and_scores({"slow": 8.0}))
    assert found["mrr_at_equal_time"].isna().all()


def test_the_table_has_the_spread_of_several_seeds_and_what_does_not_fit() -> None:
    common = {"recall@1": 0.1, "recall@10": 0.2, "recall@100": 0.3}
    rows = [
        {"model": "trained", "mrr": 0.20, "loss_ms": 2.0, "loss_mb": 5.0, **common},
        {"model": "trained", "mrr": 0.22, "loss_ms": 2.0, "loss_mb": 5.0, **common},
        {"model": "too large", "loss_mb": 800.0},
        {"model": "untrained", "mrr": 0.01, **common},
    ]
    _, cells = scores.view(pd.DataFrame(rows).assign(mrr_at_equal_time=np.nan))
    assert [row[4] for row in cells] == ["0.210 ± 0.014", "does not fit", "0.010"]
    assert [row[6:] for row in cells] == [["2.00", "5.0"], ["-", "800.0"], ["-", "-"]]


def test_a_loss_that_needs_more_memory_than_allowed_is_not_trained() -> None:
    random = np.random.default_rng(0)
    rows = {name: random.normal(size=(1500, 4)) for name in ("query", "doc")}
    data = two_tower.Retrieval(rows, rows["query"], rows["doc"], np.arange(1500))
    settings = two_tower.Settings(batch_size=1500, epochs=1, dim=4, memory_limit=4)
    compared: dict[str, losses.LossFunction] = {
        "this loss": losses.ThisLoss(3),
        "in-batch softmax": losses.InBatchSoftmax(),
    }

    def make_towers(dim: int) -> Any:
        return tuple(
            keras.Sequential([keras.Input([4]), keras.layers.Dense(dim)]) for _ in range(2)
        )

    found, curves = two_tower.compare(data, make_towers, settings, compared)
    of_softmax = found.set_index("model").loc["in-batch softmax"]
    assert 3e-6 * 1500**2 < of_softmax["loss_mb"] < 40e-6 * 1500**2
    assert np.isnan(of_softmax["loss_ms"])
    assert set(curves["model"]) == {"this loss"}


def softmax_here(**options: Any) -> float:
    """The in-batch softmax of a batch in which two rows have one document."""
    query, doc, batch = SMALL
    return float(losses.InBatchSoftmax(**options)(query, doc, batch, None))


def test_the_rivals_softmax_has_the_same_options_as_this_loss() -> None:
    query, doc, batch = SMALL
    for theirs, ours in (
        ({}, {}),
        ({"margin": 0.3}, {"margin": 0.3}),
        ({"ids": ["ids"]}, {"doc_ids": batch["ids"]}),
        ({"log_q": "log_q"}, {"doc_log_q": batch["log_q"]}),
    ):
        assert not np.isclose(softmax_here(**theirs), softmax_here()) or not theirs
        own = fused_negative_cosine_loss(query, doc, sampler="all", **ours)
        np.testing.assert_allclose(softmax_here(**theirs), own, rtol=1e-5)


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


LOSSES: dict[str, losses.LossFunction] = {
    "this loss": losses.ThisLoss(3, {"doc_ids": "doc_ids"}),
    "article's printed loss": losses.printed_loss(3),
    "in-batch softmax": losses.InBatchSoftmax(),
}


def evaluate(loss: losses.LossFunction, sample_weight: Any) -> float:
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
    ("separator", "header"),
    [("\t", False), ("::", False), (",", True), (";", True), (" ", False), ("  ", True)],
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


def test_what_a_user_was_trained_on_is_known() -> None:
    data = movielens.make_data(ratings(), liked=4.0)
    assert data.known is not None
    for user, answer, known in zip(data.queries, data.answers, data.known, strict=True):
        trained = data.pairs["doc"][data.pairs["query"] == user]
        assert {*known} - {answer} == {*trained} - {answer}


@pytest.mark.parametrize(
    ("known", "rank"), [(None, 2), ([[0, 2]], 1), ([[0, 1]], 0), ([[2, 2]], 2)]
)
def test_documents_that_are_known_do_not_count_as_found(known: Any, rank: int) -> None:
    docs = np.array([[1, 0], [0.9, 0.1], [0.5, 0.5]])
    data = two_tower.Retrieval(
        pairs={},
        queries=docs[:1],
        docs=docs,
        answers=np.array([2]),
        known=known and np.array(known),
    )
    same = keras.Sequential([keras.Input([2]), keras.layers.Identity()])
    model = two_tower.TwoTower(same, same, two_tower.untrained)
    assert two_tower.recall_and_mrr(model, data)["mrr"] == pytest.approx(1 / (rank + 1))


@pytest.mark.parametrize(
    "text", ["not ratings\n", "this is a text\nwith four words each\n", "a,b,c,d\n", ""]
)
def test_a_file_of_another_kind_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_text(text)
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
    mrr = pd.read_csv(tmp_path / "scores.csv").set_index("model")["mrr"]
    assert mrr["this loss, shuffle"] > mrr["untrained"]
    assert mrr["this loss, all, logQ"] == pytest.approx(
        mrr["in-batch softmax, logQ"], abs=0.02
    )
