"""Candidates from every replica: the loss and gradients of one device's joined batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss, sample_negatives

from tests.support import joined_batch, oracle
from tests.support.cases import Array, error
from tests.support.joined_batch import Part, Sizes, join, judge, own_first, random_part
from tests.support.two_replicas import mirrored_strategy
from tests.support.workers import run_workers

# Queries and documents of the two replicas.
EQUAL: Sizes = [(4, 4), (4, 4)]
WITH_OTHERS: Sizes = [(3, 5), (3, 4)]
LAST_BATCH: Sizes = [(4, 6), (1, 2)]
NONE_LEFT: Sizes = [(3, 4), (0, 0)]

IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["native", "reference"])


@pytest.fixture(scope="module")
def strategy() -> Any:
    return mirrored_strategy()


def assert_equal_to_one_device(
    results: Sequence[Part],
    expected: oracle.Result,
    sizes: Sizes,
    tolerance: float = 2e-5,
) -> None:
    """The replicas' losses and gradients: rows beside each other, shared ones summed."""
    by_name = {name: [result[name] for result in results] for name in results[0]}
    for name in ("row_loss", "positive_cosine", "query_gradient", "doc_gradient"):
        joined = join(by_name[name], sizes, of_docs=name == "doc_gradient")
        size = expected.gradient_sizes.get(name.removesuffix("_gradient"), 1.0)
        found = error(joined, getattr(expected, name), size)
        assert found <= tolerance, (name, found)
    np.testing.assert_array_equal(np.concatenate(by_name["num_kept"]), expected.num_kept)
    loss: Any = by_name["loss"]
    loss = np.concatenate(loss) if loss[0].ndim else sum(loss)
    assert error(loss, expected.loss) <= tolerance
    temperature = sum(by_name["temperature_gradient"])
    size = expected.gradient_sizes["temperature"]
    assert abs(temperature - expected.temperature_gradient) <= tolerance * size


def every_other(sizes: Sizes) -> Array:
    rows, docs = (sum(counts) for counts in zip(*sizes, strict=True))
    return oracle.sample_negatives(rows, docs, docs - 1, "all", (0, 0))


def parts_of(sizes: Sizes, *names: str, dtype: str = "float32") -> list[Part]:
    """The replicas' embeddings and the named options."""
    parts = [random_part(own, dtype, replica) for replica, own in enumerate(sizes)]
    return [{name: part[name] for name in ("query", "doc", *names)} for part in parts]


@IMPLEMENTATIONS
@pytest.mark.parametrize(
    "names",
    [
        (),
        ("sample_weight", "doc_log_q", "doc_ids"),
        ("query_ids",),
    ],
    ids="-".join,
)
@pytest.mark.parametrize(
    "sizes",
    [EQUAL, WITH_OTHERS, LAST_BATCH, NONE_LEFT],
    ids=["equal", "others", "last batch", "none left"],
)
def test_the_loss_and_gradients_are_one_devices_on_the_joined_batch(
    sizes: Sizes, names: tuple[str, ...], implementation: str, strategy: Any
) -> None:
    parts = parts_of(sizes, *names)
    results = joined_batch.run_on_replicas(
        strategy, parts, "graph", sampler="all", implementation=implementation
    )
    expected = judge(parts, sizes, every_other(sizes), temperature=0.7)
    assert_equal_to_one_device(results, expected, sizes)


@IMPLEMENTATIONS
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_the_padding_of_every_replica_is_left_out(
    mode: str, implementation: str, strategy: Any
) -> None:
    # The last row of each replica is NaN, of weight 0, and its document nobody's candidate.
    parts = parts_of(EQUAL, "sample_weight", "doc_log_q")
    smaller = [{name: values[:-1] for name, values in part.items()} for part in parts]
    for part in parts:
        part["query"][-1] = part["doc"][-1] = np.nan
        part["sample_weight"][-1], part["doc_log_q"][-1] = 0, np.inf
    sizes: Sizes = [(3, 3), (3, 3)]
    options = {"sampler": "all", "implementation": implementation, "reduction": "sum"}
    results = joined_batch.run_on_replicas(strategy, parts, mode, **options)
    for result in results:
        np.testing.assert_array_equal(result["query_gradient"][-1], 0)
        np.testing.assert_array_equal(result["doc_gradient"][-1], 0)
        for name, value in result.items():
            result[name] = value[:-1] if value.ndim else value
    expected = judge(smaller, sizes, every_other(sizes), temperature=0.7, reduction="sum")
    assert_equal_to_one_device(results, expected, sizes)


@pytest.mark.parametrize("options", [{"reduction": "sum"}, {"reduction": "none"}])
def test_sums_and_rows_are_the_joined_batchs_too(
    options: dict[str, Any], strategy: Any
) -> None:
    parts = parts_of(LAST_BATCH, "sample_weight")
    results = joined_batch.run_on_replicas(
        strategy, parts, "graph", sampler="all", **options
    )
    expected = judge(parts, LAST_BATCH, every_other(LAST_BATCH), temperature=0.7, **options)
    assert_equal_to_one_device(results, expected, LAST_BATCH)


def test_a_strategy_runs_it_eagerly_too(strategy: Any) -> None:
    parts = parts_of(LAST_BATCH, "query_ids")
    results = joined_batch.run_on_replicas(strategy, parts, "eager", sampler="all")
    expected = judge(parts, LAST_BATCH, every_other(LAST_BATCH), temperature=0.7)
    assert_equal_to_one_device(results, expected, LAST_BATCH)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float16", 4e-3), ("bfloat16", 3e-2), ("float64", 1e-6)]
)
def test_embeddings_of_every_dtype_are_gathered(
    dtype: str, tolerance: float, strategy: Any
) -> None:
    parts = parts_of(WITH_OTHERS, dtype=dtype)
    results = joined_batch.run_on_replicas(strategy, parts, "graph", sampler="all")
    expected = judge(parts, WITH_OTHERS, every_other(WITH_OTHERS), temperature=0.7)
    assert results[0]["doc_gradient"].dtype == parts[0]["doc"].dtype
    assert_equal_to_one_device(results, expected, WITH_OTHERS, tolerance)


@IMPLEMENTATIONS
@pytest.mark.parametrize("mask_self", [True, False])
def test_your_own_indices_number_the_gathered_documents_own_first(
    mask_self: bool, implementation: str, strategy: Any
) -> None:
    parts = parts_of(LAST_BATCH)
    joined_tables = []
    for replica, (part, (rows, _)) in enumerate(zip(parts, LAST_BATCH, strict=True)):
        order = own_first(LAST_BATCH, replica)
        table = np.random.default_rng(replica).integers(0, len(order), (rows, 7))
        part["negative_indices"] = table
        joined_tables.append(order[table])
    options = {"mask_self": mask_self}
    results = joined_batch.run_on_replicas(
        strategy, parts, "graph", implementation=implementation, **options
    )
    for part in parts:
        del part["negative_indices"]
    table = np.concatenate(joined_tables)
    expected = judge(parts, LAST_BATCH, table, temperature=0.7, **options)
    assert_equal_to_one_device(results, expected, LAST_BATCH)


def folded(seed: tuple[int, int], replica: int) -> Any:
    return tf.random.experimental.stateless_fold_in(seed, replica, alg="philox")


@IMPLEMENTATIONS
@pytest.mark.parametrize("sampler", ["shuffle", "ring"])
def test_each_replica_draws_with_its_id_folded_into_the_seed(
    sampler: str, implementation: str, strategy: Any
) -> None:
    check_draws(strategy, sampler, implementation, weight=1.0)


@IMPLEMENTATIONS
@pytest.mark.parametrize("sampler", ["shuffle", "ring"])
def test_a_weight_of_auto_counts_the_documents_of_every_replica(
    sampler: str, implementation: str, strategy: Any
) -> None:
    docs = sum(docs for _, docs in WITH_OTHERS) - (1 if sampler == "ring" else 0)
    check_draws(strategy, sampler, implementation, docs / joined_batch.K, given="auto")


def check_draws(
    strategy: Any, sampler: str, implementation: str, weight: float, given: Any = 1.0
) -> None:
    """Results of seeds that the replicas share, at the negatives' weight."""
    seed, count = (3, 4), joined_batch.K
    parts = parts_of(WITH_OTHERS)
    results = joined_batch.run_on_replicas(
        strategy,
        parts,
        "graph",
        num_negatives=count,
        sampler=sampler,
        seed=seed,
        negative_weight=given,
        implementation=implementation,
    )
    tables = []
    for replica, (rows, _) in enumerate(WITH_OTHERS):
        order = own_first(WITH_OTHERS, replica)
        drawn = sample_negatives(rows, len(order), count, sampler, folded(seed, replica))
        tables.append(order[drawn.numpy()])
    table = np.concatenate(tables)
    expected = judge(parts, WITH_OTHERS, table, temperature=0.7, negative_weight=weight)
    assert_equal_to_one_device(results, expected, WITH_OTHERS)


@pytest.mark.parametrize("seed", [(3, 4), None], ids=["a seed", "fresh seeds"])
def test_replicas_with_the_same_rows_draw_different_candidates(
    seed: Any, strategy: Any
) -> None:
    tf.random.set_seed(5)
    rows = parts_of([(64, 64), (64, 64)])[0]
    results = joined_batch.run_on_replicas(
        strategy, [rows, rows], "graph", num_negatives=4, seed=seed
    )
    first, second = (result["row_loss"] for result in results)
    assert np.mean(first == second) < 0.1


def test_a_k_beyond_the_own_documents_is_allowed_up_to_those_of_all(strategy: Any) -> None:
    parts = parts_of(EQUAL)
    joined_batch.run_on_replicas(strategy, parts, "graph", num_negatives=7, sampler="ring")
    with pytest.raises(tf.errors.InvalidArgumentError, match="at most C - 1"):
        joined_batch.run_on_replicas(
            strategy, parts, "graph", num_negatives=8, sampler="ring"
        )


@IMPLEMENTATIONS
def test_another_replicas_document_never_stands_in_for_a_missing_one(
    implementation: str, strategy: Any
) -> None:
    def loss(query: tf.Tensor, doc: tf.Tensor) -> tf.Tensor:
        return fused_negative_cosine_loss(
            query, doc, 2, cross_replica=True, implementation=implementation
        )

    @tf.function(input_signature=[tf.TensorSpec([None, 3])] * 2, autograph=False)
    def step(query: tf.Tensor, doc: tf.Tensor) -> Any:
        return strategy.run(loss, args=(query, doc))

    with pytest.raises(tf.errors.InvalidArgumentError, match="at least as many rows"):
        step(tf.ones([4, 3]), tf.ones([3, 3]))


def test_in_control_flow_of_a_replicas_own_it_is_refused(strategy: Any) -> None:
    rows = tf.eye(4)

    def replica_step() -> Any:
        def loss() -> Any:
            return fused_negative_cosine_loss(rows, rows, 2, cross_replica=True)

        return tf.cond(rows[0, 0] > 0, loss, lambda: 0.0)

    with pytest.raises(RuntimeError, match="merge_call"):
        tf.function(lambda: strategy.run(replica_step), autograph=False)()


def with_one_replica(where: str, call: Any) -> Any:
    if where == "no strategy":
        return call()
    one = tf.distribute.MirroredStrategy(["CPU:0"])
    if where == "scope":
        with one.scope():
            return call()
    return one.run(call)


@pytest.mark.parametrize("where", ["no strategy", "scope", "run"])
def test_with_one_replica_it_changes_nothing(where: str) -> None:
    part = parts_of([(5, 7)], "doc_log_q", "query_ids")[0]

    def loss(cross_replica: bool) -> Any:
        return fused_negative_cosine_loss(
            **part, num_negatives=3, seed=(1, 2), cross_replica=cross_replica
        )

    found = with_one_replica(where, lambda: loss(cross_replica=True))
    assert float(found) == float(loss(cross_replica=False))


class TwoTower(keras.Model):
    """Two linear towers and a trainable temperature, as in the README."""

    def __init__(self) -> None:
        super().__init__()
        first, second = (keras.initializers.GlorotUniform(seed) for seed in (1, 2))
        self.query_tower = keras.layers.Dense(4, kernel_initializer=first)
        self.doc_tower = keras.layers.Dense(4, kernel_initializer=second)
        self.temperature = self.add_weight(shape=(), initializer="ones", name="t")

    def call(self, inputs: Any) -> Any:
        return self.query_tower(inputs["query"]), self.doc_tower(inputs["doc"])

    def compute_loss(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True
    ) -> Any:
        return fused_negative_cosine_loss(
            *y_pred,
            sampler="all",
            temperature=tf.convert_to_tensor(self.temperature),
            cross_replica=True,
        )


def pairs(rows: int) -> Part:
    random = np.random.default_rng(0)
    return {name: random.normal(size=(rows, 8)).astype("f") for name in ("query", "doc")}


def fit(strategy: Any, rows: int, optimizer: str) -> tuple[list[Array], float]:
    """The weights and the loss after an epoch of batches of eight."""
    optimizers = {"SGD": keras.optimizers.SGD, "Adam": keras.optimizers.Adam}
    with strategy.scope():
        model = TwoTower()
        model.compile(optimizers[optimizer](0.1))
    history = model.fit(pairs(rows), batch_size=8, epochs=1, shuffle=False, verbose=0)
    return model.get_weights(), history.history["loss"][0]


@pytest.mark.parametrize("rows", [16, 13], ids=["full batches", "a smaller last one"])
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_keras_fit_ends_with_one_devices_weights(
    optimizer: str, rows: int, strategy: Any
) -> None:
    weights, loss = fit(strategy, rows, optimizer)
    expected, expected_loss = fit(tf.distribute.get_strategy(), rows, optimizer)
    for found, want in zip(weights, expected, strict=True):
        np.testing.assert_allclose(found, want, rtol=0, atol=5e-5)
    if rows == 16:
        assert loss == pytest.approx(expected_loss, rel=1e-5)


def weights_after_a_step(strategy: Any, batch: Part) -> list[Array]:
    """A custom loop's step; the optimizer sums the gradients of the replicas."""
    with strategy.scope():
        model = TwoTower()
        model(batch)  # makes its weights
        optimizer = keras.optimizers.SGD(0.1)
        optimizer.build(model.trainable_variables)

    def step(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = model.compute_loss(batch, None, model(batch))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients)
        return loss

    @tf.function(autograph=False)
    def train(batch: dict[str, Any]) -> tf.Tensor:
        return strategy.reduce("SUM", strategy.run(step, args=(batch,)), axis=None)

    dataset = tf.data.Dataset.from_tensors(batch).unbatch().batch(len(batch["query"]))
    (dealt,) = strategy.experimental_distribute_dataset(dataset)
    loss = train(dealt)
    return [loss.numpy(), *model.get_weights()]


@pytest.mark.parametrize("rows", [8, 7])
def test_a_step_of_a_custom_loop_ends_with_one_devices_loss_and_weights(
    rows: int, strategy: Any
) -> None:
    found = weights_after_a_step(strategy, pairs(rows))
    expected = weights_after_a_step(tf.distribute.get_strategy(), pairs(rows))
    for value, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, want, rtol=1e-5, atol=1e-5)


def test_two_workers_compute_one_devices_loss_and_gradients(tmp_path: Path) -> None:
    results = run_workers("tests.tensorflow.replica_worker", tmp_path)
    parts = parts_of(LAST_BATCH, "doc_log_q", "query_ids")
    expected = judge(parts, LAST_BATCH, every_other(LAST_BATCH), temperature=0.7)
    assert_equal_to_one_device(results, expected, LAST_BATCH)
