"""The benchmark's rivals compute what this package computes, so the race is fair."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss

from benchmarks.baselines import article_loss, in_batch_softmax_loss, vectorised_loss
from tests.support.cases import Batch


@pytest.mark.parametrize("baseline", [article_loss, vectorised_loss])
@pytest.mark.parametrize("jit", [False, True])
def test_a_baseline_gives_this_loss_on_the_same_candidates(
    baseline: Any, jit: bool
) -> None:
    batch = Batch((64, 64, 16, 5), "float32")
    query, doc = tf.constant(batch.query), tf.constant(batch.doc)
    table = tf.cast(batch.indices, tf.int32)
    call = tf.function(baseline, jit_compile=jit, autograph=False)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([query, doc])
        theirs = call(query, doc, 5, table)
        ours = fused_negative_cosine_loss(
            query, doc, negative_indices=batch.indices, mask_self=False
        )
    np.testing.assert_allclose(theirs, ours, rtol=1e-5)
    for name, rows in (("query", query), ("doc", doc)):
        gradients = [tape.gradient(loss, rows).numpy() for loss in (theirs, ours)]
        atol = 1e-5 * np.abs(gradients[0]).max()
        np.testing.assert_allclose(gradients[0], gradients[1], atol=atol, err_msg=name)


def test_in_batch_softmax_is_sampler_all() -> None:
    batch = Batch((64, 64, 16, 5), "float32")
    theirs = in_batch_softmax_loss(tf.constant(batch.query), tf.constant(batch.doc))
    ours = fused_negative_cosine_loss(
        batch.query, batch.doc, sampler="all", implementation="reference"
    )
    np.testing.assert_allclose(theirs, ours, rtol=1e-5)
