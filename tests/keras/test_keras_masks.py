"""Rows that Keras masks are left out of the loss, and are nobody's candidates."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import DocumentQueue, NegativeCosineLoss, fused_negative_cosine_loss
from negative_cosine._masked_inputs import leave_masked_out

from tests.keras import keras_steps
from tests.support.cases import Array

DIM, IDS = 4, 9
IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["native", "reference"])
# 0 is no query and no document.
QUERY_IDS = np.array([3, 0, 1, 2, 8, 5])
DOC_IDS = np.array([4, 2, 0, 7, 1, 6, 0, 5])
OWN_DOC_IDS = DOC_IDS[: len(QUERY_IDS)]
COUNTS = (QUERY_IDS != 0) & (OWN_DOC_IDS != 0)


@pytest.fixture(autouse=True)
def no_mask_is_destroyed() -> Iterator[None]:
    """Keras warns of layers that take no masks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*does not support masking")
        yield


def table(seed: int, **options: Any) -> keras.layers.Embedding:
    options = {"mask_zero": True, "embeddings_initializer": uniform(seed), **options}
    return keras.layers.Embedding(IDS, DIM, **options)


def uniform(seed: int) -> Any:
    return keras.initializers.RandomUniform(-1, 1, seed=seed)


def masked(ids: Array, seed: int) -> tf.Tensor:
    """Embeddings that bring the mask of their ids."""
    rows = table(seed)(tf.constant(ids))
    assert rows._keras_mask is not None
    return rows


def new_layer(**options: Any) -> NegativeCosineLoss:
    return NegativeCosineLoss(sampler="all", recall_at=(), reduction="sum", **options)


def loss_without_masked_rows(query: Any, doc: Any, **options: Any) -> Any:
    """The counting rows' losses, each against the documents that no mask left out."""
    rows, columns = np.flatnonzero(COUNTS), np.flatnonzero(DOC_IDS)
    candidates = [[other for other in columns if other != row] for row in rows]
    return fused_negative_cosine_loss(
        tf.gather(query, rows),
        # Row i of the documents is query i's own; the candidates stand behind.
        tf.concat([tf.gather(doc, rows), doc], axis=0),
        negative_indices=np.array(candidates) + len(rows),
        mask_self=False,
        reduction="sum",
        **options,
    )


# --- What a mask does -------------------------------------------------------------------


@IMPLEMENTATIONS
def test_masked_rows_change_neither_loss_nor_gradients(implementation: str) -> None:
    query, doc = masked(QUERY_IDS, 1), masked(DOC_IDS, 2)
    layer = new_layer(implementation=implementation)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([query, doc])
        found = keras_steps.loss_of(layer, [query, doc])
        expected = loss_without_masked_rows(query, doc)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    for rows, counts in ((query, COUNTS), (doc, DOC_IDS != 0)):
        gradient = np.asarray(tape.gradient(found, rows))
        want = tf.convert_to_tensor(tape.gradient(expected, rows))
        np.testing.assert_allclose(gradient, want, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(gradient[~counts], 0)


@pytest.mark.parametrize("masked_in", ["query", "doc"])
def test_the_mean_is_over_the_rows_that_count(masked_in: str) -> None:
    rows = [tf.random.stateless_normal([6, DIM], [seed, 0]) for seed in (1, 2)]
    layer = NegativeCosineLoss(sampler="all", recall_at=())
    # The last two rows are padding, in the query and the document.
    mask = np.arange(6) < 4
    padded = [tf.where(mask[:, np.newaxis], values, 7.0) for values in rows]
    masks = [mask, mask] if masked_in == "query" else [None, mask]
    keras_steps.test_step(layer, padded, mask=masks)
    found = layer.losses[0]
    expected = fused_negative_cosine_loss(rows[0][:4], rows[1][:4], sampler="all")
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_weights_beside_a_mask_may_be_booleans() -> None:
    rows = [tf.random.stateless_normal([6, DIM], [seed, 0]) for seed in (1, 2)]
    losses = []
    for weight in (np.arange(6) > 1, (np.arange(6) > 1).astype(float)):
        inputs = {"query": rows[0], "doc": rows[1], "sample_weight": tf.constant(weight)}
        layer = new_layer()
        mask = {"query": np.arange(6) < 4, "doc": None}
        keras_steps.test_step(layer, inputs, mask=mask)
        losses.append(float(layer.losses[0]))
    assert losses[0] == losses[1] > 0


def test_a_batch_of_padding_alone_has_loss_zero() -> None:
    layer = NegativeCosineLoss(sampler="all", recall_at=())
    nothing = np.zeros(6, bool)
    keras_steps.test_step(layer, [tf.ones([6, DIM])] * 2, mask=[nothing, nothing])
    np.testing.assert_array_equal(layer.losses[0], 0)


def test_a_row_counts_if_neither_its_query_nor_its_document_is_masked() -> None:
    rows = [tf.random.stateless_normal([6, DIM], [seed, 0]) for seed in (1, 2)]
    layer = new_layer()
    for query_mask, doc_mask in (
        (QUERY_IDS != 0, None),
        (None, OWN_DOC_IDS != 0),
        (QUERY_IDS != 0, OWN_DOC_IDS != 0),
    ):
        keras_steps.test_step(layer, rows, mask=[query_mask, doc_mask])
        counts = np.ones(6) if query_mask is None else query_mask.astype(float)
        log_q = np.zeros(6) if doc_mask is None else np.where(doc_mask, 0, np.inf)
        expected = fused_negative_cosine_loss(
            *rows,
            sampler="all",
            reduction="sum",
            sample_weight=counts * (1 if doc_mask is None else doc_mask),
            doc_log_q=log_q,
        )
        np.testing.assert_allclose(layer.losses[0], expected, rtol=1e-6)


def test_weights_and_log_q_apply_to_what_is_not_masked() -> None:
    query, doc = masked(QUERY_IDS, 1), masked(DOC_IDS, 2)
    weight = np.where(COUNTS, np.linspace(0.5, 2, 6), np.nan).astype("f")
    log_q = np.where(DOC_IDS != 0, -np.arange(8.0), np.nan).astype("f")
    inputs = {"query": query, "doc": doc, "sample_weight": weight, "doc_log_q": log_q}
    inputs = {name: tf.convert_to_tensor(values) for name, values in inputs.items()}
    inputs["query"]._keras_mask, inputs["doc"]._keras_mask = QUERY_IDS != 0, DOC_IDS != 0
    found = keras_steps.loss_of(new_layer(), inputs)
    rows = np.flatnonzero(COUNTS)
    expected = loss_without_masked_rows(
        query,
        doc,
        sample_weight=weight[rows],
        doc_log_q=np.concatenate([log_q[rows], np.where(DOC_IDS != 0, log_q, 0)]),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_masked_rows_count_for_no_metric() -> None:
    query, doc = masked(QUERY_IDS, 1), masked(OWN_DOC_IDS, 2)
    layer = new_layer()
    keras_steps.test_step(layer, [query, doc])
    cosine = -keras.losses.cosine_similarity(query, doc).numpy()
    found = {metric.name: float(metric.result()) for metric in layer.metrics}
    assert found["positive_cosine"] == pytest.approx(cosine[COUNTS].mean(), rel=1e-5)
    loss = float(layer.losses[0]) / COUNTS.sum()
    assert found["negative_cosine_loss"] == pytest.approx(loss, rel=1e-5)


@IMPLEMENTATIONS
def test_a_masked_document_counts_as_dropped(implementation: str) -> None:
    doc = masked(OWN_DOC_IDS, 2)
    layer = new_layer(implementation=implementation)
    keras_steps.test_step(layer, [tf.ones([6, DIM]), doc])
    found = {metric.name: float(metric.result()) for metric in layer.metrics}
    # Five rows have five candidates, one of them masked; the masked row has none.
    assert found["dropped_share"] == pytest.approx(5 / 30)


def test_without_masks_the_inputs_are_those_that_were_given() -> None:
    named = {"query": tf.ones([2, DIM]), "doc": tf.ones([2, DIM])}
    assert leave_masked_out(named, {"query": None, "doc": None}) == (named, None)


# --- How masks arrive -------------------------------------------------------------------


def functional(layer: Any, query: Any, doc: Any) -> keras.Model:
    inputs = {name: keras.Input([], dtype="int32", name=name) for name in ("query", "doc")}
    return keras.Model(inputs, layer([query(inputs["query"]), doc(inputs["doc"])]))


def functional_by_name(layer: Any, query: Any, doc: Any) -> keras.Model:
    inputs = {name: keras.Input([], dtype="int32", name=name) for name in ("query", "doc")}
    rows = {"query": query(inputs["query"]), "doc": doc(inputs["doc"])}
    return keras.Model(inputs, layer({**rows, "doc_ids": inputs["doc"]}))


class Subclassed(keras.Model):
    """Its layer is called with tensors, never with Keras's symbols."""

    def __init__(self, layer: Any, query: Any, doc: Any) -> None:
        super().__init__()
        self.layer, self.query, self.doc = layer, query, doc

    def call(self, inputs: Any) -> Any:
        return self.layer([self.query(inputs["query"]), self.doc(inputs["doc"])])


MODELS: list[Callable[..., keras.Model]] = [functional, functional_by_name, Subclassed]


def changes(model: keras.Model, table: keras.layers.Embedding, **settings: Any) -> Array:
    """How far a step of ``fit`` moves the row of each id."""
    model.compile(keras.optimizers.SGD(1.0), **settings)
    ids = np.arange(IDS, dtype=np.int32)
    model({"query": ids, "doc": np.roll(ids, 1)})
    before = table.get_weights()[0]
    model.fit({"query": ids, "doc": np.roll(ids, 1)}, batch_size=IDS, verbose=0)
    return abs(table.get_weights()[0] - before).max(axis=1)


@pytest.mark.parametrize("settings", [{}, {"run_eagerly": True}], ids=["graph", "eager"])
@pytest.mark.parametrize("tower", ["query", "doc"])
@pytest.mark.parametrize("make", MODELS)
def test_fit_leaves_the_row_of_a_masked_id_as_it_is(
    make: Any, tower: str, settings: dict[str, Any]
) -> None:
    # The other tower trains all of its rows.
    tables = {name: table(1, mask_zero=name == tower) for name in ("query", "doc")}
    moved = changes(make(new_layer(), **tables), tables[tower], **settings)
    assert moved[0] == 0
    assert (moved[1:] > 0).all()


def test_a_mask_comes_through_a_dense_tower() -> None:
    tower = keras.layers.Dense(DIM)
    query = keras.layers.Masking()(tf.constant([[1.0, 2], [0, 0], [2, 1]]))
    layer = new_layer()
    found = keras_steps.loss_of(layer, [tower(query), tf.eye(3, DIM)])
    expected = fused_negative_cosine_loss(
        tower(query),
        tf.eye(3, DIM),
        sampler="all",
        reduction="sum",
        sample_weight=[1, 0, 1],
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_pooling_that_ends_the_mask_changes_nothing() -> None:
    words = table(1)(np.array([[1, 2], [3, 0], [0, 0]]))
    query = keras.layers.GlobalAveragePooling1D()(words)
    assert getattr(query, "_keras_mask", None) is None
    found = keras_steps.loss_of(new_layer(), [query, tf.eye(3, DIM)])
    expected = fused_negative_cosine_loss(
        query, tf.eye(3, DIM), sampler="all", reduction="sum"
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("make", [functional, Subclassed])
def test_a_saved_model_goes_on_to_leave_masked_rows_out(make: Any, tmp_path: Path) -> None:
    if make is Subclassed:
        make = keras.saving.register_keras_serializable("masks")(SavedSubclass)
    tables = {name: table(1) for name in ("query", "doc")}
    model = make(new_layer(), **tables)
    model.compile()
    batch = {"query": QUERY_IDS, "doc": OWN_DOC_IDS}
    expected = model.evaluate(batch, verbose=0, return_dict=True)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.evaluate(batch, verbose=0, return_dict=True) == pytest.approx(expected)


class SavedSubclass(Subclassed):
    """As it has to be written to be saved."""

    def get_config(self) -> dict[str, Any]:
        layers = {name: getattr(self, name) for name in ("layer", "query", "doc")}
        return {
            name: keras.saving.serialize_keras_object(layer)
            for name, layer in layers.items()
        }

    @classmethod
    def from_config(cls, config: Any) -> Any:
        return cls(
            **{
                name: keras.saving.deserialize_keras_object(value)
                for name, value in config.items()
            }
        )


# --- Where masks go ---------------------------------------------------------------------


class SeesMask(keras.layers.Layer):
    """Keeps the mask that came with its input."""

    def call(self, rows: Any, mask: Any = None) -> Any:
        self.seen = mask
        return rows

    def compute_mask(self, rows: Any, mask: Any) -> Any:
        return mask


@pytest.mark.parametrize("named", [True, False])
def test_the_layers_behind_see_the_masks(named: bool) -> None:
    query, doc = masked(QUERY_IDS, 1), masked(DOC_IDS, 2)
    inputs = {"query": query, "doc": doc, "doc_ids": tf.constant(DOC_IDS)}
    outputs = new_layer()(inputs if named else [query, doc])
    for rows, ids in zip(outputs, (QUERY_IDS, DOC_IDS), strict=True):
        layer = SeesMask()
        layer(rows)
        np.testing.assert_array_equal(layer.seen, ids != 0)


def test_the_layers_behind_see_the_masks_in_a_functional_model() -> None:
    ids = [keras.Input([], dtype="int32") for _ in range(2)]
    seers = [SeesMask(), SeesMask()]
    outputs = new_layer()([table(1)(ids[0]), table(2, mask_zero=False)(ids[1])])
    behind = [seer(rows) for seer, rows in zip(seers, outputs, strict=True)]
    keras.Model(ids, behind)([tf.constant(QUERY_IDS), tf.constant(DOC_IDS)])
    np.testing.assert_array_equal(seers[0].seen, QUERY_IDS != 0)
    assert seers[1].seen is None


# --- The queue --------------------------------------------------------------------------


def test_a_masked_document_is_not_queued() -> None:
    queue = DocumentQueue(8)
    queue(masked(DOC_IDS, 2), training=True)
    later = queue(tf.ones([1, DIM]))
    is_empty = later["doc_log_q"].numpy()[1:] == np.inf
    np.testing.assert_array_equal(is_empty, DOC_IDS == 0)
    np.testing.assert_array_equal(later["doc"].numpy()[1:][is_empty], 0)


@pytest.mark.parametrize("named", [True, False])
def test_the_mask_of_the_documents_reaches_the_loss_behind_the_queue(named: bool) -> None:
    query, doc = masked(QUERY_IDS, 1), masked(DOC_IDS, 2)
    inputs = {"doc": doc, "doc_ids": tf.range(8)} if named else doc
    candidates = DocumentQueue(3)(inputs)
    np.testing.assert_array_equal(
        candidates["doc"]._keras_mask, [*(DOC_IDS != 0), True, True, True]
    )
    candidates.pop("doc_ids", None)
    found = keras_steps.loss_of(new_layer(), {"query": query, **candidates})
    np.testing.assert_allclose(found, loss_without_masked_rows(query, doc), rtol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"run_eagerly": True}], ids=["graph", "eager"])
def test_fit_with_a_queue_leaves_a_masked_document_as_it_is(
    settings: dict[str, Any],
) -> None:
    def with_queue(layer: Any, query: Any, doc: Any) -> keras.Model:
        ids = {name: keras.Input([], dtype="int32", name=name) for name in ("query", "doc")}
        candidates = DocumentQueue(4)({"doc": doc(ids["doc"]), "doc_ids": ids["doc"]})
        return keras.Model(ids, layer({"query": query(ids["query"]), **candidates}))

    tables = {"query": table(1, mask_zero=False), "doc": table(2)}
    moved = changes(with_queue(new_layer(), **tables), tables["doc"], **settings)
    assert moved[0] == 0
    assert (moved[1:] > 0).all()


# --- Refusals ---------------------------------------------------------------------------


@keras.saving.register_keras_serializable("masks")
class SumsOverWords(keras.layers.Layer):
    """Passes a mask of words on behind the sum over them, as many layers do in error."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, words: Any) -> Any:
        return keras.ops.sum(words, axis=1)


@pytest.mark.parametrize("place", [0, 1], ids=["query", "doc"])
def test_a_mask_of_words_is_refused_by_what_to_do(place: int) -> None:
    words = table(1)(np.array([[1, 2, 3], [3, 0, 0]]))
    inputs = [tf.ones([2, DIM]), tf.ones([2, DIM])]
    inputs[place] = SumsOverWords()(words)
    name = ("query", "doc")[place]
    message = (
        rf"the mask of {name} must have one element for each row, got shape \(2, 3\).*None"
    )
    with pytest.raises(ValueError, match=message):
        keras_steps.test_step(new_layer(), inputs)
    if name == "doc":
        with pytest.raises(ValueError, match=message):
            DocumentQueue(3)(inputs[place], training=True)


def test_a_mask_of_words_is_refused_while_the_model_is_built() -> None:
    words = keras.Input([3], dtype="int32")
    with pytest.raises(ValueError, match=r"the mask of query .* got shape \(None, 3\)"):
        new_layer()([SumsOverWords()(table(1)(words)), keras.Input([DIM])])


@pytest.mark.parametrize("mask", [np.ones([3], bool), np.ones([1], bool)])
def test_a_mask_of_another_number_of_rows_is_refused(mask: Array) -> None:
    inputs = [tf.ones([2, DIM]), tf.ones([2, DIM])]
    with pytest.raises(
        ValueError, match="the mask of query must have one element for each row"
    ):
        keras_steps.test_step(new_layer(), inputs, mask=[mask, None])


def test_one_mask_for_two_inputs_is_refused() -> None:
    inputs = [tf.ones([2, DIM]), tf.ones([2, DIM])]
    with pytest.raises(ValueError, match="mask must have the structure of inputs"):
        keras_steps.test_step(new_layer(), inputs, mask=tf.constant([True, False]))
