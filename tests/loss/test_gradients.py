"""Gradients as a user meets them: numerical checks, tapes, Keras."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss

from tests.support.cases import Batch
from tests.support.tensorflow_runs import run_loss


@pytest.mark.parametrize("implementation", ["native", "reference"])
@pytest.mark.parametrize("source", ["shuffle", "indices"])
@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
def test_gradients_agree_with_finite_differences_in_float64(
    normalize_over: str, source: str, implementation: str
) -> None:
    batch = Batch((5, 7, 6, 3), "float64")
    fixed = batch.only("doc_log_q", "margin", "negative_weight")
    fixed |= {"normalize_over": normalize_over}
    candidates: dict[str, Any] = (
        {"negative_indices": batch.indices}
        if source == "indices"
        else {"num_negatives": 3, "seed": (1, 2)}
    )

    def loss(query: Any, doc: Any, scale: Any, temperature: Any, weight: Any) -> Any:
        return fused_negative_cosine_loss(
            query,
            doc,
            scale=scale,
            temperature=temperature,
            sample_weight=weight,
            **candidates,
            **fixed,
            implementation=implementation,
        )

    unit = [
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in (batch.query, batch.doc)
    ]
    point = [*unit, np.float64(3.0), np.float64(1.2), batch.options["sample_weight"]]
    analytic, numeric = tf.test.compute_gradient(loss, point, delta=1e-5)
    for name, exact, approximate in zip(
        ("query", "doc", "scale", "temperature", "weight"),
        analytic,
        numeric,
        strict=True,
    ):
        np.testing.assert_allclose(exact, approximate, atol=1e-8, err_msg=name)


def step_in_graph(**options: Any) -> Any:
    @tf.function(autograph=False)
    def loss(query: tf.Tensor, doc: tf.Tensor) -> tf.Tensor:
        return fused_negative_cosine_loss(
            query, doc, 3, seed=(1, 2), implementation="native", **options
        )

    return loss


def test_a_tape_outside_the_function_gives_the_gradient_of_a_tape_inside() -> None:
    batch = Batch((37, 41, 17, 3), "float32")
    batch.seed = (1, 2)
    inside = run_loss(batch, "shuffle", {}, "native", "graph")
    query, doc = tf.constant(batch.query), tf.constant(batch.doc)
    with tf.GradientTape() as tape:
        tape.watch([query, doc])
        loss = step_in_graph()(query, doc)
    for name, gradient in zip(
        ("query", "doc"), tape.gradient(loss, [query, doc]), strict=True
    ):
        np.testing.assert_array_equal(gradient, inside[f"{name}_gradient"])


@pytest.mark.parametrize("kept", ["query", "doc"])
def test_a_gradient_for_one_side_alone_is_the_same(kept: str, mode: str) -> None:
    batch = Batch((37, 41, 17, 3), "float32")
    batch.seed = (1, 2)
    both = run_loss(batch, "shuffle", {}, "native")
    query, doc = tf.constant(batch.query), tf.constant(batch.doc)
    call = step_in_graph() if mode == "graph" else step_in_graph().python_function
    with tf.GradientTape() as tape:
        tape.watch(query if kept == "query" else doc)
        loss = call(query, doc)
    gradient = tape.gradient(loss, query if kept == "query" else doc)
    np.testing.assert_array_equal(gradient, both[f"{kept}_gradient"])


def test_a_variable_temperature_gets_its_gradient() -> None:
    batch = Batch((37, 41, 17, 3), "float32")
    temperature = tf.Variable(0.5)
    with tf.GradientTape() as tape:
        loss = fused_negative_cosine_loss(
            batch.query, batch.doc, 3, seed=(1, 2), temperature=temperature
        )
    gradient = tape.gradient(loss, temperature)
    losses = [
        fused_negative_cosine_loss(batch.query, batch.doc, 3, seed=(1, 2), temperature=t)
        for t in (0.501, 0.499)
    ]
    assert float(gradient) == pytest.approx(float(losses[0] - losses[1]) / 0.002, rel=1e-2)


def test_statistics_carry_no_gradient(mode: str) -> None:
    query = tf.random.stateless_normal([5, 4], seed=(1, 2))

    def gradient(watched: dict[str, tf.Tensor]) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(watched)
            _, stats = fused_negative_cosine_loss(
                watched["query"], query, 3, return_stats=True, implementation="native"
            )
            value = tf.reduce_sum(stats.row_loss + stats.positive_cosine)
        return tape.gradient(value, watched["query"])

    if mode == "eager":
        assert gradient({"query": query}) is None
    else:
        traced: list[Any] = []
        tf.function(lambda q: traced.append(gradient({"query": q})), autograph=False)(query)
        assert traced == [None]


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_a_second_derivative_of_the_native_loss_is_a_clear_error(mode: str) -> None:
    query = tf.random.stateless_normal([5, 4], seed=(1, 2))

    def second_derivative() -> Any:
        with tf.GradientTape() as outer:
            outer.watch(query)
            with tf.GradientTape() as inner:
                inner.watch(query)
                loss = fused_negative_cosine_loss(
                    query, query[::-1], 3, implementation="native"
                )
            first = inner.gradient(loss, query)
        return outer.gradient(first, query)

    call = (
        second_derivative
        if mode == "eager"
        else tf.function(second_derivative, autograph=False)
    )
    with pytest.raises(LookupError, match=r"first derivatives only.*'reference'"):
        call()


class TwoTower(keras.Model):
    """Two dense towers and the loss, as a user would write it."""

    def __init__(self, implementation: str) -> None:
        super().__init__()
        start = keras.initializers.GlorotUniform
        self.query_tower = keras.layers.Dense(8, kernel_initializer=start(seed=1))
        self.doc_tower = keras.layers.Dense(8, kernel_initializer=start(seed=2))
        self.implementation = implementation

    def call(self, inputs: Any) -> Any:
        return self.query_tower(inputs["query"]), self.doc_tower(inputs["doc"])

    def compute_loss(self, x: Any, y: Any, y_pred: Any, *_: Any, **__: Any) -> tf.Tensor:
        query, doc = y_pred
        return fused_negative_cosine_loss(
            query, doc, 5, seed=(3, 4), implementation=self.implementation
        )


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_keras_fit_trains_the_same_with_both_implementations(run_eagerly: bool) -> None:
    random = np.random.default_rng(0)
    doc = random.normal(size=(100, 12)).astype(np.float32)
    noise = 0.1 * random.normal(size=doc.shape).astype(np.float32)
    histories = []
    for implementation in ("native", "reference"):
        model = TwoTower(implementation)
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=run_eagerly)
        data = {"query": doc + noise, "doc": doc}
        # 100 rows in batches of 32: the last one is short.
        fit = model.fit(data, batch_size=32, epochs=4, shuffle=False, verbose=0)
        histories.append(fit.history["loss"])
    np.testing.assert_allclose(histories[0], histories[1], rtol=1e-4)
    assert histories[0][-1] < 0.5 * histories[0][0]
