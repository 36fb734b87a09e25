"""``negative_weight``: how often a drawn negative counts in the softmax.

``test_parity.py`` has it among the other options. Here are its edges, and what "auto"
stands for where no size is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import _core, fused_negative_cosine_loss

from tests.support.cases import (
    DTYPES,
    Array,
    Batch,
    assert_gradients_close,
    assert_values_close,
    automatic_weight,
    run_on_arrays,
    run_oracle,
    table_of,
)
from tests.support.tensorflow_runs import run_loss

SOURCES = pytest.mark.parametrize("source", ["shuffle", "ring", "all", "indices"])
SAMPLERS = pytest.mark.parametrize("sampler", ["shuffle", "ring", "all"])
IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["native", "reference"])
MODES = pytest.mark.parametrize("mode", ["eager", "graph", "xla"])


def assert_the_same_bits(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@SOURCES
@IMPLEMENTATIONS
def test_a_weight_of_one_is_the_default_bit_for_bit(
    implementation: str, source: str, dtype: str
) -> None:
    batch = Batch((37, 41, 17, 5), dtype)
    options = batch.only("margin", "doc_log_q", "sample_weight")
    without = run_loss(batch, source, options, implementation)
    weighted = run_loss(batch, source, {**options, "negative_weight": 1}, implementation)
    assert_the_same_bits(weighted, without)


@pytest.mark.parametrize("weight", [1e-30, 1e-3, 1e3, 1e30])
@pytest.mark.parametrize("scale", [0.5, 20.0, 150.0])
@pytest.mark.parametrize("dtype", DTYPES)
@SOURCES
def test_a_huge_or_tiny_weight_gives_the_judges_numbers(
    source: str, dtype: str, scale: float, weight: float
) -> None:
    batch = Batch((37, 41, 17, 5), dtype)
    options = batch.only("margin", "sample_weight", "doc_ids")
    options |= {"scale": scale, "negative_weight": weight}
    expected = run_oracle(batch, source, options)
    slack = max(1.0, (scale + abs(np.log(weight))) / 20)
    for implementation in ("native", "reference"):
        results = run_loss(batch, source, options, implementation)
        assert_values_close(results, expected, dtype, slack)
        assert_gradients_close(results, expected, dtype, slack)


@pytest.mark.parametrize("weight", [1e-300, 1e300])
def test_float64_has_room_for_more(weight: float) -> None:
    batch = Batch((37, 41, 17, 5), "float64")
    options = {"negative_weight": weight}
    results = run_loss(batch, "shuffle", options, "native")
    assert_values_close(results, run_oracle(batch, "shuffle", options), "float64", 35.0)


@SOURCES
@IMPLEMENTATIONS
def test_a_weight_of_two_is_every_negative_twice(implementation: str, source: str) -> None:
    once = Batch((37, 41, 17, 5), "float64")
    twice = Batch((37, 41, 17, 5), "float64")
    table = table_of(once, source)
    once.indices, twice.indices = table, np.concatenate([table, table], axis=1)
    options = once.only("margin", "doc_log_q", "scale", "doc_ids")
    found = run_loss(once, source, {**options, "negative_weight": 2.0}, implementation)
    wanted = run_loss(twice, "indices", options, implementation)
    for name, values in wanted.items():
        if name not in ("num_kept", "positive_rank"):
            np.testing.assert_allclose(found[name], values, rtol=1e-10, err_msg=name)


@pytest.mark.parametrize("weight", [1e-30, 0.3, 7.0, 1e30])
@SOURCES
@IMPLEMENTATIONS
def test_the_statistics_are_those_of_the_plain_logits(
    implementation: str, source: str, weight: float
) -> None:
    batch = Batch((37, 41, 17, 5), "float32")
    batch.doc[: batch.rows] = batch.query + 2 * batch.doc[: batch.rows]
    batch.doc[-1] = batch.doc[0]  # a tie
    plain = run_loss(batch, source, {}, implementation)
    weighted = run_loss(batch, source, {"negative_weight": weight}, implementation)
    assert 0 < plain["positive_rank"].sum() < plain["num_kept"].sum()
    for name in ("positive_rank", "num_kept", "positive_cosine"):
        np.testing.assert_array_equal(weighted[name], plain[name], err_msg=name)
    assert abs(weighted["loss"] - plain["loss"]) > 0.1


@pytest.mark.parametrize("weight", [1e-30, 1e30])
@MODES
@IMPLEMENTATIONS
def test_a_row_without_negatives_has_loss_zero_at_any_weight(
    implementation: str, mode: str, weight: float
) -> None:
    batch = Batch((5, 7, 17, 3), "float32")
    options = {"doc_ids": np.zeros(7, np.int32), "negative_weight": weight}
    results = run_loss(batch, "shuffle", options, implementation, mode)
    np.testing.assert_array_equal(results["row_loss"], 0)
    for name in ("query", "doc", "scale"):
        np.testing.assert_array_equal(results[f"{name}_gradient"], 0, err_msg=name)


@pytest.mark.parametrize("weight", [1e-30, "auto", 1e30])
@SAMPLERS
@IMPLEMENTATIONS
def test_over_the_batch_it_changes_nothing(
    implementation: str, sampler: str, weight: Any
) -> None:
    batch = Batch((37, 41, 17, 5), "float32")
    options = batch.only("margin", "doc_log_q", "normalize_over")
    plain = run_loss(batch, sampler, options, implementation)
    options["negative_weight"] = weight
    assert_the_same_bits(run_loss(batch, sampler, options, implementation), plain)


# --- "auto" -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@SAMPLERS
@MODES
@IMPLEMENTATIONS
def test_auto_is_the_documents_that_could_be_drawn_over_k(
    implementation: str, mode: str, sampler: str, dtype: str
) -> None:
    batch = Batch((37, 41, 17, 5), dtype)
    options = batch.only("margin", "doc_ids", "sample_weight")
    expected = run_oracle(batch, sampler, {**options, "negative_weight": "auto"})
    found = run_loss(
        batch, sampler, {**options, "negative_weight": "auto"}, implementation, mode
    )
    assert_values_close(found, expected, dtype)
    assert_gradients_close(found, expected, dtype)
    number = {**options, "negative_weight": automatic_weight(batch, sampler)}
    by_number = run_loss(batch, sampler, number, implementation, mode)
    np.testing.assert_allclose(found["loss"], by_number["loss"], rtol=1e-6)


@IMPLEMENTATIONS
def test_auto_follows_the_batch_that_a_graph_is_given(implementation: str) -> None:
    @tf.function(
        input_signature=[tf.TensorSpec([None, 6]), tf.TensorSpec([None, 6])],
        autograph=False,
    )
    def loss(query: tf.Tensor, doc: tf.Tensor) -> tf.Tensor:
        return fused_negative_cosine_loss(
            query,
            doc,
            3,
            seed=(1, 2),
            negative_weight="auto",
            implementation=implementation,
        )

    for rows, docs in ((5, 5), (8, 30), (1, 100)):
        batch = Batch((rows, docs, 6, 3), "float32")
        batch.seed = (1, 2)
        expected = run_oracle(batch, "shuffle", {"negative_weight": "auto"})
        np.testing.assert_allclose(loss(batch.query, batch.doc), expected.loss, rtol=1e-5)
    assert loss(tf.zeros([0, 6]), tf.zeros([0, 6])) == 0


@pytest.mark.parametrize("sampler", ["ring", "all"])
@IMPLEMENTATIONS
def test_auto_of_every_other_document_is_one(implementation: str, sampler: str) -> None:
    batch = Batch((37, 41, 17, 40), "float32")
    plain = run_loss(batch, sampler, {}, implementation)
    found = run_loss(batch, sampler, {"negative_weight": "auto"}, implementation)
    assert_the_same_bits(found, plain)


@MODES
@IMPLEMENTATIONS
@SAMPLERS
def test_auto_of_an_empty_batch_is_no_error(
    sampler: str, implementation: str, mode: str
) -> None:
    batch = Batch((0, 0, 8, 5), "float32")
    found = run_loss(batch, sampler, {"negative_weight": "auto"}, implementation, mode)
    assert found["loss"] == 0


# --- What the core refuses --------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "weight", "message"),
    [
        ("shuffle", -1.0, "must be a finite number above 0, or 0 for 'auto', got -1$"),
        ("ring", np.nan, "must be a finite number above 0, or 0 for 'auto', got -?nan$"),
        ("all", np.inf, "must be a finite number above 0, or 0 for 'auto', got inf$"),
        ("indices", 0.0, "must be a number where negative_indices are given, got 'auto', "),
    ],
)
def test_the_core_refuses_what_is_no_weight(
    source: str, weight: float, message: str
) -> None:
    batch = Batch((3, 5, 4, 2), "float32")
    with pytest.raises(ValueError, match=f"^negative_weight {message}"):
        run_on_arrays(_core, batch, source, {"negative_weight": weight})
