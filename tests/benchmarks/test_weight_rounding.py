"""The simulation of rounded weights, on small batches: that it sees what rounding costs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks import weight_rounding
from benchmarks.weight_rounding import Case

WORDS = ("--batches", "128", "--dims", "64", "--counts", "all", "--scales", "20")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """What the program writes of two kinds of rows."""
    output = tmp_path_factory.mktemp("rounding") / "weight_rounding.csv"
    kinds = ("--data", "duplicates", "collapsed", "--seeds", "1")
    weight_rounding.main([*WORDS, *kinds, "--output", str(output)])
    return pd.read_csv(output)


def largest(results: pd.DataFrame, variant: str) -> float:
    rows = results[results["variant"] == variant]
    return float(rows[["query", "doc"]].max(axis=None))


def test_a_row_is_written_for_each_batch_and_variant(results: pd.DataFrame) -> None:
    assert len(results) == 2 * 2 * len(weight_rounding.VARIANTS)
    assert set(results["dtype"]) == {"bfloat16", "float16"}


def test_two_numbers_cost_no_more_than_the_gradients_own_rounding(
    results: pd.DataFrame,
) -> None:
    assert largest(results, "two") < 1.1


def test_one_number_alone_breaks_the_rule_and_what_the_kernels_do_holds_it(
    results: pd.DataFrame,
) -> None:
    assert largest(results, "one") > 2 * weight_rounding.LIMIT
    assert largest(results, "rescaled") < weight_rounding.LIMIT


def test_the_documents_show_a_line_for_each_dtype_and_variant(
    results: pd.DataFrame,
) -> None:
    columns, lines = weight_rounding.view(results)
    assert [line[0] for line in lines][:2] == ["bfloat16 two", "bfloat16 one"]
    assert len(lines) == 2 * len(weight_rounding.VARIANTS)
    assert all(len(line) == len(columns) for line in lines)


def test_exact_weights_give_the_gradient_of_the_loss() -> None:
    case = Case("random", "float16", batch=8, dim=5, count="all", scale=3.0)
    by_query, by_doc = weight_rounding.passes(case)
    query, doc = by_doc.rows, by_query.rows

    def loss(query: weight_rounding.Array, doc: weight_rounding.Array) -> float:
        logits = case.scale * weight_rounding.unit(query) @ weight_rounding.unit(doc).T
        return float((np.log(np.exp(logits).sum(axis=1)) - logits.diagonal()).sum())

    step = 1e-5
    for weights, index in ((by_query, 0), (by_doc, 1)):
        rows = [query.copy(), doc.copy()]
        rows[index][3, 2] += step
        above = loss(*rows)
        rows[index][3, 2] -= 2 * step
        slope = (above - loss(*rows)) / (2 * step)
        assert weights.exact()[3, 2] == pytest.approx(slope, rel=1e-4)
