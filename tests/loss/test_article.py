"""The article's class: its printed arithmetic, and what it was meant to be."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import NegativeCosineLayer, fused_negative_cosine_loss

from tests.support.cases import Batch

PAIRS = [[1, 2], [2, 1], [3, 2], [4, 1]]


def printed(negatives: int, t: float = 1.0) -> NegativeCosineLayer:
    with pytest.warns(UserWarning, match="the negatives do not enter the loss"):
        return NegativeCosineLayer(negatives, t)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(("negatives", "t"), [(1, 1.0), (3, 0.5), (20, 7.0)])
def test_the_articles_example_gives_log_4_whatever_its_parameters(
    negatives: int, t: float, dtype: str
) -> None:
    pairs = tf.constant(PAIRS, dtype)
    loss = printed(negatives, t)([pairs, pairs])
    assert loss.shape == (1,)
    assert loss.dtype == dtype
    rounding = {"float16": 1e-3, "bfloat16": 1e-2}.get(dtype, 1e-6)
    assert float(loss[0]) == pytest.approx(math.log(4), abs=rounding)


def test_by_default_it_is_the_printed_formula() -> None:
    batch = Batch((37, 37, 17, 3), "float64")
    query = batch.query / np.linalg.norm(batch.query, axis=1, keepdims=True)
    doc = batch.doc / np.linalg.norm(batch.doc, axis=1, keepdims=True)
    z = 20 * (query * doc).sum(axis=1)
    probability = (np.exp(z) / 2.0) / (np.exp(z) / 2.0).sum(axis=0)
    loss = printed(3, 2.0)([tf.constant(batch.query), tf.constant(batch.doc)])
    np.testing.assert_allclose(loss, [-np.log(probability).mean()], rtol=1e-12)


def test_over_candidates_it_is_the_loss_at_temperature_t() -> None:
    batch = Batch((37, 37, 17, 3), "float32")
    query, doc = tf.constant(batch.query), tf.constant(batch.doc)
    layer = NegativeCosineLayer(3, 0.5, normalize_over="candidates")
    tf.random.set_seed(1)
    found = layer([query, doc])
    tf.random.set_seed(1)
    expected = fused_negative_cosine_loss(query, doc, 3, temperature=0.5)
    np.testing.assert_array_equal(found, [expected])


def test_it_trains_inside_a_keras_model() -> None:
    query, doc = keras.Input([4]), keras.Input([4])
    towers = keras.layers.Dense(3)(query), keras.layers.Dense(3)(doc)
    loss = NegativeCosineLayer(2, 1.0, normalize_over="candidates")(list(towers))
    model = keras.Model([query, doc], loss)
    model.compile("sgd", loss=lambda _, loss: loss)
    data = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    history = model.fit([data, data], np.zeros([8]), batch_size=8, epochs=3, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_its_configuration_makes_the_same_layer_again() -> None:
    layer = NegativeCosineLayer(7, 0.3, normalize_over="candidates", mask_self=False)
    again = NegativeCosineLayer.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1.0), "NEG must be an integer from 1 to .*, got 0"),
        ((2, 0.0), "t must be a finite number above 0, got 0.0"),
        ((2, "0.5"), "t must be a finite number above 0, got '0.5'"),
        ((2, True), "t must be a finite number above 0, got True"),
        ((2, float("inf")), "t must be a finite number above 0, got inf"),
        ((2, float("nan")), "t must be a finite number above 0, got nan"),
        ((2, 1.0, "axis=0"), "normalize_over must be one of 'candidates', 'batch'"),
    ],
)
def test_a_wrong_argument_is_refused(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NegativeCosineLayer(*arguments)  # type: ignore[arg-type]
