"""Padding, rows of weight 0 and documents that are nobody's candidate, through TensorFlow.

``tests/kernels/test_left_out.py`` has the kernels' own tests of the same rules.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import NegativeCosineLoss, fused_negative_cosine_loss

from tests.support.cases import DTYPES, Array, Batch
from tests.support.tensorflow_runs import run_loss

IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["native", "reference"])
MODES = pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
NORMALIZE_OVER = pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
ON_HOSTS = pytest.mark.parametrize("mode", ["eager", "graph"])
NAMES = ("query", "doc")

# The batch as it is, and what a fixed-size batch adds behind its rows and documents.
ROWS, DOCS, PADDED = 12, 17, 16


def padded(batch: Batch, bad: float) -> tuple[Batch, dict[str, Any], Array]:
    """The batch with padding between its rows and its extra documents."""
    larger = Batch((PADDED, DOCS + PADDED - ROWS, batch.dim, batch.k), batch.dtype)
    own = np.r_[:ROWS, PADDED : PADDED + DOCS - ROWS]
    larger.query[:], larger.doc[:] = bad, bad
    larger.query[:ROWS], larger.doc[own] = batch.query, batch.doc
    weight = np.zeros(PADDED, batch.real)
    weight[:ROWS] = 1
    log_q = np.full(len(larger.doc), np.inf, batch.real)
    log_q[own] = 0
    return larger, {"sample_weight": weight, "doc_log_q": log_q}, own


@pytest.mark.parametrize("bad", [0.0, 3.0, np.nan, np.inf])
@pytest.mark.parametrize("dtype", DTYPES)
@NORMALIZE_OVER
@MODES
@IMPLEMENTATIONS
def test_a_padded_batch_has_the_loss_and_gradients_of_the_batch_without_padding(
    implementation: str, mode: str, normalize_over: str, dtype: str, bad: float
) -> None:
    batch = Batch((ROWS, DOCS, 8, 5), dtype)
    options = {"normalize_over": normalize_over, "reduction": "sum"}
    larger, left_out, own = padded(batch, bad)
    alone = run_loss(batch, "all", options, implementation, mode)
    found = run_loss(larger, "all", {**options, **left_out}, implementation, mode)
    tolerance = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 1e-5, "float64": 1e-12}
    np.testing.assert_allclose(found["loss"], alone["loss"], rtol=1e-5)
    np.testing.assert_array_equal(found["num_kept"][:ROWS], alone["num_kept"])
    np.testing.assert_array_equal(found["positive_rank"][:ROWS], alone["positive_rank"])
    for name, rows in (("query", np.arange(ROWS)), ("doc", own)):
        gradient = found[f"{name}_gradient"].astype(np.float64)
        wanted = alone[f"{name}_gradient"].astype(np.float64)
        size = abs(wanted).max()
        np.testing.assert_allclose(gradient[rows], wanted, atol=tolerance[dtype] * size)
        others = np.setdiff1d(np.arange(len(gradient)), rows)
        np.testing.assert_array_equal(gradient[others], 0)


@NORMALIZE_OVER
@MODES
@IMPLEMENTATIONS
def test_rows_of_weight_zero_and_nan_leave_every_gradient_finite(
    implementation: str, mode: str, normalize_over: str
) -> None:
    batch = Batch((ROWS, DOCS, 8, 5), "float32")
    weight = np.ones(ROWS, np.float32)
    weight[3] = 0
    batch.query[3] = np.nan
    options = {"sample_weight": weight, "normalize_over": normalize_over}
    found = run_loss(batch, "shuffle", options, implementation, mode)
    for name in ("loss", *(f"{name}_gradient" for name in (*NAMES, "scale"))):
        assert np.isfinite(found[name]).all(), name
    np.testing.assert_array_equal(found["query_gradient"][3], 0)
    assert np.isnan(found["row_loss"][3]) == (normalize_over == "candidates")


@MODES
@IMPLEMENTATIONS
def test_a_document_of_infinite_log_q_is_as_good_as_absent(
    implementation: str, mode: str
) -> None:
    batch = Batch((ROWS, DOCS, 8, 5), "float32")
    log_q = np.zeros(DOCS, np.float32)
    log_q[[12, 14]] = np.inf
    found = run_loss(batch, "all", {"doc_log_q": log_q}, implementation, mode)
    batch.doc = np.delete(batch.doc, [12, 14], axis=0)
    batch.docs -= 2
    without = run_loss(batch, "all", {}, implementation, mode)
    found["doc_gradient"] = np.delete(found["doc_gradient"], [12, 14], axis=0)
    for name, value in without.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("wrong", [-np.inf, np.nan])
@ON_HOSTS
@IMPLEMENTATIONS
def test_the_logarithm_of_a_probability_of_zero_is_refused_by_name_and_position(
    implementation: str, mode: str, wrong: float
) -> None:
    batch = Batch((ROWS, DOCS, 8, 5), "float32")
    log_q = np.zeros(DOCS, np.float32)
    log_q[[5, 9]] = wrong
    found = rf"(?s)doc_log_q must .*{wrong}.*5.*estimate every probability"
    with pytest.raises(tf.errors.InvalidArgumentError, match=found):
        run_loss(batch, "ring", {"doc_log_q": log_q}, implementation, mode)


@pytest.mark.parametrize("wrong", [-np.inf, np.nan])
@pytest.mark.parametrize("source", ["shuffle", "all"])
@IMPLEMENTATIONS
def test_where_xla_cannot_refuse_it_the_loss_is_infinite_and_never_nan(
    implementation: str, source: str, wrong: float
) -> None:
    batch = Batch((ROWS, DOCS, 8, 5), "float32")
    log_q = np.zeros(DOCS, np.float32)
    log_q[[5]] = wrong
    options = {"doc_log_q": log_q}
    if implementation == "native":  # its call runs on the host, which refuses it
        with pytest.raises(tf.errors.OpError, match="doc_log_q must"):
            run_loss(batch, source, options, implementation, "xla")
        return
    found = run_loss(batch, source, options, implementation, "xla")
    assert np.isposinf(found["loss"])
    assert not np.isnan(found["row_loss"]).any()
    for name in NAMES:
        assert np.isfinite(found[f"{name}_gradient"]).all(), name


@IMPLEMENTATIONS
def test_rows_of_weight_zero_stay_out_of_the_layers_loss_and_metrics(
    implementation: str,
) -> None:
    batch = Batch((ROWS, ROWS, 8, 5), "float32")
    weight = np.ones(ROWS, np.float32)
    weight[[3, 4]] = 0
    layer = NegativeCosineLoss(sampler="all", implementation=implementation)
    inputs = {
        name: keras.Input(shape, name=name)
        for name, shape in (("query", [8]), ("doc", [8]), ("sample_weight", []))
    }
    model = keras.Model(inputs, layer(inputs))
    model.compile("sgd")
    results = []
    for bad in (0.0, np.nan):
        batch.query[[3, 4]] = bad
        x = {"query": batch.query, "doc": batch.doc, "sample_weight": weight}
        results.append(model.evaluate(x, verbose=0, return_dict=True))
    assert results[0].pop("dropped_share") == results[1].pop("dropped_share")
    assert results[0] == pytest.approx(results[1])
    assert np.isfinite(list(results[1].values())).all()


def test_the_layer_takes_a_mask_of_booleans_as_weights() -> None:
    batch = Batch((ROWS, ROWS, 8, 5), "float32")
    mask = np.arange(ROWS) % 3 > 0
    results = []
    for dtype in ("bool", "float32"):
        shapes: dict[str, Any] = {"query": [8], "doc": [8]}
        inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
        inputs["sample_weight"] = keras.Input([], name="sample_weight", dtype=dtype)
        model = keras.Model(inputs, NegativeCosineLoss(sampler="all")(inputs))
        model.compile("sgd")
        x = {"query": batch.query, "doc": batch.doc, "sample_weight": mask.astype(dtype)}
        results.append(model.evaluate(x, verbose=0, return_dict=True))
    assert results[0] == pytest.approx(results[1])


@pytest.mark.parametrize("source", ["shuffle", "all"])
@NORMALIZE_OVER
@MODES
@IMPLEMENTATIONS
def test_a_replica_without_rows_and_documents_has_loss_zero(
    implementation: str, mode: str, normalize_over: str, source: str
) -> None:
    batch = Batch((0, 0, 8, 5), "float32")
    options = {"normalize_over": normalize_over}
    assert run_loss(batch, source, options, implementation, mode)["loss"] == 0


# Logits, differences of logQ and losses that leave float32.
OVERFLOWS: dict[str, dict[str, Any]] = {
    "margin": {"margin": 3e38},
    "minus margin": {"margin": -3e38},
    "large margin": {"margin": 1e37},
    "logQ": {"doc_log_q": np.array([3e38, -3e38, 0, 0, 0, 0], np.float32)},
}


@pytest.mark.parametrize("overflow", OVERFLOWS)
@NORMALIZE_OVER
def test_what_leaves_the_numbers_is_infinite_without_a_gradient_in_both(
    normalize_over: str, overflow: str
) -> None:
    batch = Batch((6, 6, 4, 5), "float32")
    options = {
        **OVERFLOWS[overflow],
        "normalize_over": normalize_over,
        "reduction": "none",
    }
    native, reference = (
        run_loss(batch, "all", options, implementation)
        for implementation in ("native", "reference")
    )
    np.testing.assert_allclose(native["loss"], reference["loss"], rtol=1e-5)
    for name in NAMES:
        found, wanted = (results[f"{name}_gradient"] for results in (native, reference))
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4, err_msg=name)
    if normalize_over == "candidates":
        infinite = np.isposinf(native["loss"])
        np.testing.assert_array_equal(native["query_gradient"][infinite], 0)


# --- Scales that only the running step knows --------------------------------------------

WRONG_SCALES = pytest.mark.parametrize("value", [-1.0, 0.0, np.nan, np.inf])


@WRONG_SCALES
@pytest.mark.parametrize("name", ["scale", "temperature"])
@ON_HOSTS
@IMPLEMENTATIONS
def test_a_scale_that_is_not_above_zero_is_refused_by_name_as_a_tensor_too(
    implementation: str, mode: str, name: str, value: float
) -> None:
    batch = Batch((ROWS, DOCS, 8, 5), "float32")
    wanted = f"(?s){name} must be above 0 and finite.*{value:g}.*learn_temperature"
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=wanted):
        run_loss(batch, "shuffle", {name: value}, implementation, mode)


@WRONG_SCALES
@pytest.mark.parametrize("name", ["scale", "temperature"])
@IMPLEMENTATIONS
def test_where_xla_cannot_refuse_it_no_plausible_number_comes_out(
    implementation: str, name: str, value: float
) -> None:
    batch = Batch((ROWS, DOCS, 8, 5), "float32")
    try:
        found = run_loss(batch, "shuffle", {name: value}, implementation, "xla")
    except tf.errors.OpError as error:
        assert "scale / temperature must be above 0" in str(error)  # noqa: PT017
        return
    assert np.isnan(found["loss"])
    assert np.isnan(found["query_gradient"]).all()


@pytest.mark.parametrize("in_function", [False, True])
@IMPLEMENTATIONS
def test_a_temperature_that_training_moves_below_zero_ends_the_training(
    implementation: str, in_function: bool
) -> None:
    batch = Batch((ROWS, DOCS, 8, 5), "float32")
    temperature = tf.Variable(0.05)

    def step() -> None:
        with tf.GradientTape() as tape:
            loss = fused_negative_cosine_loss(
                batch.query,
                batch.doc,
                5,
                seed=(1, 2),
                temperature=temperature,
                implementation=implementation,
            )
        gradient = tape.gradient(loss, temperature)
        temperature.assign_sub(0.04 * tf.sign(tf.abs(gradient)))

    train = tf.function(step) if in_function else step
    train()
    wanted = "(?s)temperature must be above 0.*learn_temperature"
    train()
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=wanted):
        train()
