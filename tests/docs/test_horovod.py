"""docs/replicas.md on Horovod: it computes what one device does on the joined batch."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss

from tests.support.checkout import ROOT
from tests.support.documents import python_blocks

PAGE = (ROOT / "docs" / "replicas.md").read_text()
(BLOCK,) = (code for code in python_blocks(PAGE) if "import horovod" in code)
# Other draws would be other losses.
BLOCK_WITH_ALL = BLOCK.replace("num_negatives=100", 'sampler="all"')
PROCESSES, ROWS, DIM = 3, 8, 5


def stand_in(rank: int, docs: list[tf.Tensor]) -> ModuleType:
    """Horovod in one of several processes, which are all in this one and under one tape.

    So a document's gradient comes from every process that met it, as a sum; ``allgather``
    of Horovod gives back their mean.
    """

    def allgather(doc: tf.Tensor) -> tf.Tensor:
        np.testing.assert_array_equal(doc, docs[rank])
        every = tf.concat(docs, axis=0)
        fixed = tf.stop_gradient(every)
        return fixed + (every - fixed) / len(docs)

    horovod: Any = ModuleType("horovod.tensorflow")
    horovod.allgather = allgather
    horovod.rank = lambda: rank
    horovod.size = lambda: len(docs)
    return horovod


def loss_of_process(rank: int, queries: list[tf.Tensor], docs: list[tf.Tensor]) -> Any:
    """What the page's function returns in one process."""
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        horovod: Any = ModuleType("horovod")
        horovod.tensorflow = stand_in(rank, docs)
        patch.setitem(sys.modules, "horovod", horovod)
        patch.setitem(sys.modules, "horovod.tensorflow", horovod.tensorflow)
        exec(compile(BLOCK_WITH_ALL, "docs/replicas.md", "exec"), names)
    return names["loss_of"](queries[rank], docs[rank])


def test_the_processes_mean_gradient_is_that_of_the_joined_batch() -> None:
    assert BLOCK_WITH_ALL != BLOCK
    rows = np.random.default_rng(0).normal(size=(2, PROCESSES * ROWS, DIM))
    weight = tf.Variable(np.random.default_rng(1).normal(size=(DIM, DIM)))
    with tf.GradientTape(persistent=True) as tape:
        query, doc = (tf.matmul(side, weight) for side in rows)
        queries, docs = tf.split(query, PROCESSES), tf.split(doc, PROCESSES)
        losses = [loss_of_process(rank, queries, docs) for rank in range(PROCESSES)]
        # DistributedGradientTape takes the mean too.
        mean = tf.reduce_mean(losses)
        joined = fused_negative_cosine_loss(query, doc, sampler="all")
    np.testing.assert_allclose(mean, joined, rtol=1e-12)
    expected = tape.gradient(joined, weight)
    np.testing.assert_allclose(tape.gradient(mean, weight), expected, rtol=1e-9)
    assert np.any(expected)
