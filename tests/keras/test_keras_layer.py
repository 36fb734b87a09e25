"""The loss as a Keras layer: what it adds, reports, draws, saves and refuses."""

from __future__ import annotations

import functools
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import NegativeCosineLoss, fused_negative_cosine_loss
from negative_cosine._loader import xla_kernel_available

from tests.keras import keras_steps
from tests.support.cases import Array, Batch
from tests.support.two_replicas import mirrored_strategy

OPTIONAL_INPUTS = ("doc_ids", "query_ids", "doc_log_q", "sample_weight")
SOME = Batch((37, 41, 8, 5), "float32")


def some_inputs(*names: str) -> dict[str, tf.Tensor]:
    """Embeddings and the named optional inputs, as a layer gets them."""
    arrays = {"query": SOME.query, "doc": SOME.doc, **SOME.only(*names)}
    return {name: tf.constant(value) for name, value in arrays.items()}


def pairs(rows: int = 64, dim: int = 8) -> dict[str, Array]:
    """A document is its query, rotated: something that two towers can learn."""
    random = np.random.default_rng(0)
    query = random.normal(size=(rows, dim)).astype(np.float32)
    rotation = np.linalg.qr(random.normal(size=(dim, dim)))[0].astype(np.float32)
    return {"query": query, "doc": query @ rotation}


def embedding_inputs() -> dict[str, keras.KerasTensor]:
    """The inputs of the two towers."""
    return {name: keras.Input([8], name=name) for name in ("query", "doc")}


def functional_model(layer: keras.layers.Layer, **more: Any) -> keras.Model:
    """Two dense towers and the layer; ``more`` are further inputs of it."""
    inputs = {**embedding_inputs(), **more}
    towers = {
        "query": keras.layers.Dense(8, name="query_tower")(inputs["query"]),
        "doc": keras.layers.Dense(8, name="doc_tower")(inputs["doc"]),
    }
    return keras.Model(inputs, layer({**inputs, **towers}))


class SubclassedModel(keras.Model):
    """The same in a class of its own, with towers that are Sequential models."""

    def __init__(self, layer: keras.layers.Layer) -> None:
        super().__init__()
        self.query_tower = keras.Sequential([keras.layers.Dense(8)])
        self.doc_tower = keras.Sequential([keras.layers.Dense(8)])
        self.loss_layer = layer

    def call(self, inputs: Any) -> Any:
        query, doc = self.query_tower(inputs["query"]), self.doc_tower(inputs["doc"])
        return self.loss_layer([query, doc])


def sequential_model(layer: keras.layers.Layer) -> keras.Model:
    """Functional, with towers that are Sequential models."""
    inputs = embedding_inputs()
    towers = [keras.Sequential([keras.layers.Dense(8)])(x) for x in inputs.values()]
    return keras.Model(inputs, layer(towers))


MODELS = {
    "functional": functional_model,
    "subclassed": SubclassedModel,
    "sequential": sequential_model,
}


# --- What it adds and returns -----------------------------------------------------------


@pytest.mark.parametrize("implementation", ["native", "reference"])
@pytest.mark.parametrize("names", [(), OPTIONAL_INPUTS, *((n,) for n in OPTIONAL_INPUTS)])
def test_it_adds_the_loss_of_its_inputs(
    names: tuple[str, ...], implementation: str
) -> None:
    inputs = some_inputs(*names)
    layer = NegativeCosineLoss(5, evaluation_seed=(3, 4), implementation=implementation)
    expected = fused_negative_cosine_loss(
        **inputs, num_negatives=5, seed=(3, 4), implementation=implementation
    )
    np.testing.assert_array_equal(keras_steps.loss_of(layer, inputs), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"scale": 12.5, "temperature": 0.7},
        {"margin": 0.15},
        {"negative_weight": 3.5},
        {"negative_weight": "auto"},
        {"mask_self": False},
        {"normalize_over": "batch"},
        {"reduction": "sum"},
        {"sampler": "ring"},
    ],
    ids=str,
)
def test_its_options_are_those_of_the_loss(options: dict[str, Any]) -> None:
    inputs = some_inputs()
    found = keras_steps.loss_of(NegativeCosineLoss(5, **options), inputs)
    expected = fused_negative_cosine_loss(**inputs, num_negatives=5, seed=(0, 0), **options)
    np.testing.assert_array_equal(found, expected)


def test_all_needs_no_number_of_negatives() -> None:
    found = keras_steps.loss_of(NegativeCosineLoss(sampler="all"), some_inputs())
    expected = fused_negative_cosine_loss(**some_inputs(), sampler="all")
    np.testing.assert_array_equal(found, expected)


def test_negative_indices_take_the_place_of_a_sampler() -> None:
    inputs = {**some_inputs(), "negative_indices": tf.constant(SOME.indices)}
    found = keras_steps.loss_of(NegativeCosineLoss(), inputs)
    np.testing.assert_array_equal(found, fused_negative_cosine_loss(**inputs))


def test_a_list_of_two_is_query_and_doc() -> None:
    inputs = some_inputs()
    layer = NegativeCosineLoss(5)
    by_name = keras_steps.loss_of(layer, inputs)
    in_order = keras_steps.loss_of(layer, [inputs["query"], inputs["doc"]])
    assert float(in_order) == float(by_name)


def test_it_returns_query_and_doc_as_they_are() -> None:
    inputs = some_inputs("doc_ids")
    query, doc = NegativeCosineLoss(5)(inputs)
    np.testing.assert_array_equal(query, inputs["query"])
    np.testing.assert_array_equal(doc, inputs["doc"])


def test_a_layer_can_stand_behind_it() -> None:
    inputs = [keras.Input([8]), keras.Input([8])]
    towers = [keras.layers.Dense(4)(rows) for rows in inputs]
    query, doc = NegativeCosineLoss(3)(towers)
    score = keras.layers.Dot(axes=1, normalize=True)([query, doc])
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(score))
    model.compile("adam", "binary_crossentropy")
    data = pairs()
    history = model.fit(list(data.values()), np.ones([64]), epochs=1, verbose=0).history
    assert history["loss"][0] > history["negative_cosine_loss"][0]


def test_its_symbolic_outputs_have_an_unknown_batch_size() -> None:
    query, doc = keras.Input([4]), keras.Input([4])
    found = NegativeCosineLoss(3).compute_output_spec([query, doc])
    assert [spec.shape for spec in found] == [(None, 4), (None, 4)]
    assert [spec.dtype for spec in found] == ["float32", "float32"]


# --- Training ---------------------------------------------------------------------------


@pytest.mark.parametrize("make_model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize(
    "setting",
    [{}, {"run_eagerly": True}, {"steps_per_execution": 3}],
    ids=["graph", "eager", "three steps"],
)
def test_it_trains_every_kind_of_model(make_model: Any, setting: dict[str, Any]) -> None:
    keras.utils.set_random_seed(0)
    model = make_model(NegativeCosineLoss(5))
    model.compile(keras.optimizers.Adam(0.03), **setting)
    # Four batches of 16, the last one of 12.
    data = {name: rows[:60] for name, rows in pairs().items()}
    history = model.fit(data, batch_size=16, epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["in_batch_accuracy"][-1] > history["in_batch_accuracy"][0]


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_under_a_mixed_policy_embeddings_are_short_and_the_loss_is_float32(
    policy: str,
) -> None:
    keras.utils.set_random_seed(0)
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        layer = NegativeCosineLoss(5, learn_temperature=True)
        model = functional_model(layer)
    finally:
        keras.config.set_dtype_policy(previous)
    model.compile(keras.optimizers.Adam(0.03))
    scales = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scales == (policy == "mixed_float16")
    query, _ = keras_steps.test_step(model, pairs())
    assert query.dtype == policy.removeprefix("mixed_")
    assert layer.losses[0].dtype == tf.float32
    assert layer.log_logit_scale.dtype == "float32"
    history = model.fit(pairs(), batch_size=16, epochs=8, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]


def test_under_a_mixed_policy_log_q_and_weights_keep_their_digits() -> None:
    inputs = some_inputs("doc_log_q", "sample_weight")
    short = {name: tf.cast(inputs[name], tf.float16) for name in ("query", "doc")}
    layer = NegativeCosineLoss(5, dtype="mixed_float16")
    found = keras_steps.loss_of(layer, {**inputs, **short})
    expected = fused_negative_cosine_loss(
        **{**inputs, **short}, num_negatives=5, seed=(0, 0)
    )
    np.testing.assert_array_equal(found, expected)


REPLICAS = """
import keras, numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
from negative_cosine import NegativeCosineLoss

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rows = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
changes = []
for scope, batch in ((strategy.scope(), 16), (tf.device("CPU:0"), 8)):
    keras.utils.set_random_seed(0)
    with scope:
        query, doc = keras.Input([8]), keras.Input([8])
        tower = keras.layers.Dense(4, use_bias=False)
        outputs = NegativeCosineLoss(sampler="all")([tower(query), tower(doc)])
        model = keras.Model([query, doc], outputs)
        model.compile(keras.optimizers.SGD(1e-3))
    before = keras.ops.convert_to_numpy(tower.kernel)
    # Both replicas see the same eight rows, as one device alone.
    data = np.concatenate([rows[:8], rows[:8]])[:batch]
    model.fit([data, data + 1], batch_size=batch, shuffle=False, verbose=0)
    changes.append(keras.ops.convert_to_numpy(tower.kernel) - before)
np.testing.assert_allclose(*changes, rtol=1e-3, atol=1e-7)
assert abs(changes[0]).max() > 1e-6
"""


def test_replicas_take_the_step_of_one_device_that_sees_the_same_rows(
    tmp_path: Path,
) -> None:
    run = subprocess.run(
        [sys.executable, "-c", REPLICAS], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]


# --- Which candidates it draws ----------------------------------------------------------


def losses_of_steps(seed: Any, num_steps: int, **setting: Any) -> list[float]:
    """The loss of each training step of a model that does not change."""
    layer = NegativeCosineLoss(5, seed=seed)
    found = tf.Variable(tf.zeros([num_steps]))
    count = tf.Variable(0)

    class Recorder(keras.Model):
        def compute_loss(self, *arguments: Any, **options: Any) -> Any:
            loss = super().compute_loss(*arguments, **options)
            found.scatter_nd_update([[count]], [loss])
            count.assign_add(1)
            return loss

    query, doc = keras.Input([8]), keras.Input([8])
    identity = keras.layers.Dense(8, kernel_initializer="identity")
    model = Recorder([query, doc], layer([identity(query), identity(doc)]))
    model.compile(keras.optimizers.SGD(0.0), **setting)
    rows = [SOME.query, SOME.doc[: SOME.rows]]
    data = tf.data.Dataset.from_tensors((tuple(rows),)).repeat(num_steps)
    model.fit(data, verbose=0)
    return [float(loss) for loss in found.numpy()]


SETTINGS = pytest.mark.parametrize(
    "setting",
    [{}, {"run_eagerly": True}, {"steps_per_execution": 3}],
    ids=["graph", "eager", "three steps"],
)


@SETTINGS
def test_training_draws_anew_in_each_step(setting: dict[str, Any]) -> None:
    losses = losses_of_steps(None, 6, **setting)
    assert len(set(losses)) == 6


@SETTINGS
def test_the_global_seed_governs_the_draws(setting: dict[str, Any]) -> None:
    def run(seed: int) -> list[float]:
        keras.utils.set_random_seed(seed)
        return losses_of_steps(None, 3, **setting)

    assert run(1) == run(1)
    assert run(1) != run(2)


@SETTINGS
def test_a_seed_of_its_own_starts_a_sequence_of_seeds(setting: dict[str, Any]) -> None:
    query, doc = SOME.query, SOME.doc[: SOME.rows]
    expected = [
        fused_negative_cosine_loss(query, doc, 5, seed=(7, 8 + step)) for step in range(6)
    ]
    np.testing.assert_allclose(losses_of_steps((7, 8), 6, **setting), expected, rtol=1e-6)


def test_two_evaluations_agree() -> None:
    model = functional_model(NegativeCosineLoss(5))
    model.compile("adam")
    first = model.evaluate(pairs(), batch_size=16, verbose=0, return_dict=True)
    assert model.evaluate(pairs(), batch_size=16, verbose=0, return_dict=True) == first


def test_the_evaluation_seed_chooses_the_evaluations_candidates() -> None:
    found = []
    for seed in ((1, 2), (1, 3)):
        layer = NegativeCosineLoss(5, evaluation_seed=seed)
        found.append(float(keras_steps.loss_of(layer, some_inputs())))
    assert found[0] != found[1]


def test_a_stateless_call_returns_the_losses_and_the_state() -> None:
    layer = NegativeCosineLoss(5, seed=(7, 8))
    inputs = some_inputs()
    layer(inputs)  # makes the weights
    weights = [weight.value for weight in layer.non_trainable_variables]
    call = functools.partial(layer.stateless_call, [], weights, return_losses=True)
    for step, seed, num_draws in (
        (keras_steps.train_step, (7, 8), 1),
        (keras_steps.test_step, (0, 0), 0),
    ):
        _, state, (loss,) = step(call, inputs)
        expected = fused_negative_cosine_loss(**inputs, num_negatives=5, seed=seed)
        np.testing.assert_array_equal(loss, expected)
        assert state[layer.non_trainable_variables.index(layer.num_draws)] == num_draws
        assert layer.num_draws.numpy() == 0


# --- Metrics ----------------------------------------------------------------------------


def results(layer: keras.layers.Layer) -> dict[str, float]:
    return {metric.name: float(metric.result()) for metric in layer.metrics}


@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_are_means_over_the_rows_of_all_batches(weighted: bool) -> None:
    layer = NegativeCosineLoss(5, recall_at=(2, 4))
    names = ("doc_ids", "sample_weight") if weighted else ("doc_ids",)
    whole = some_inputs(*names)
    rows: dict[str, list[Array]] = {}
    weights: dict[str, list[Array]] = {}
    for size in (37, 20):
        inputs = {
            name: value[:size] if name in ("query", "sample_weight") else value
            for name, value in whole.items()
        }
        keras_steps.test_step(layer, inputs)
        _, stats = fused_negative_cosine_loss(
            **inputs, num_negatives=5, seed=(0, 0), return_stats=True
        )
        rank, kept = stats.positive_rank.numpy(), stats.num_kept.numpy()
        weight = np.asarray(inputs["sample_weight"]) if weighted else np.ones(size)
        for name, (values, own_weight) in {
            "negative_cosine_loss": (stats.row_loss, weight),
            "in_batch_accuracy": (rank == 0, weight * (kept >= 1)),
            "recall_at_2": (rank < 2, weight * (kept >= 2)),
            "recall_at_4": (rank < 4, weight * (kept >= 4)),
            "positive_cosine": (stats.positive_cosine, weight),
            "dropped_share": (1 - kept / 5, np.ones(size)),
        }.items():
            rows.setdefault(name, []).append(np.asarray(values, np.float64))
            weights.setdefault(name, []).append(own_weight)
    found = results(layer)
    assert list(found) == list(rows)
    for name, parts in rows.items():
        expected = np.average(np.concatenate(parts), weights=np.concatenate(weights[name]))
        assert found[name] == pytest.approx(expected, rel=1e-5), name


def test_the_share_of_dropped_candidates_knows_how_many_there_were() -> None:
    ids = {"doc_ids": tf.zeros([41], tf.int32)}
    table = {"negative_indices": tf.constant(SOME.indices)}
    for layer, inputs in (
        (NegativeCosineLoss(5), ids),
        (NegativeCosineLoss(sampler="all"), ids),
        (NegativeCosineLoss(), {**ids, **table}),
    ):
        keras_steps.test_step(layer, {**some_inputs(), **inputs})
        assert results(layer)["dropped_share"] == 1.0


def test_each_epoch_starts_its_metrics_again() -> None:
    model = functional_model(NegativeCosineLoss(sampler="all"))
    model.compile(keras.optimizers.SGD(0.0))
    history = model.fit(pairs(), batch_size=64, epochs=3, verbose=0).history
    for values in history.values():
        np.testing.assert_allclose(values, values[0], rtol=1e-5)


def test_without_other_losses_the_models_loss_is_the_layers() -> None:
    model = functional_model(NegativeCosineLoss(5))
    model.compile("adam")
    found = model.evaluate(pairs(), batch_size=16, verbose=0, return_dict=True)
    assert found["loss"] == pytest.approx(found["negative_cosine_loss"], rel=1e-6)


def test_a_prefix_tells_the_metrics_of_two_layers_apart() -> None:
    query, doc = keras.Input([8]), keras.Input([8])
    towers = [keras.layers.Dense(4)(query), keras.layers.Dense(4)(doc)]
    first = NegativeCosineLoss(3, metric_prefix="coarse_")(towers)
    second = NegativeCosineLoss(3, metric_prefix="fine_")(first)
    model = keras.Model([query, doc], second)
    model.compile("adam")
    found = model.evaluate(list(pairs().values()), verbose=0, return_dict=True)
    both = found["coarse_negative_cosine_loss"] + found["fine_negative_cosine_loss"]
    assert found["loss"] == pytest.approx(both, rel=1e-6)


def two_layers(*prefixes: str) -> keras.Model:
    query, doc = keras.Input([8]), keras.Input([8])
    pair = [keras.layers.Dense(4)(query), keras.layers.Dense(4)(doc)]
    for place, prefix in enumerate(prefixes):
        layer = NegativeCosineLoss(
            3, recall_at=(), metric_prefix=prefix, name=f"layer{place}"
        )
        pair = layer(pair)
    model = keras.Model([query, doc], pair)
    model.compile("adam")
    return model


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_two_layers_whose_metrics_have_the_same_names_warn(method: str) -> None:
    model = two_layers("", "")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        getattr(model, method)(list(pairs().values()), verbose=0)
    (found,) = [one for one in caught if "metric_prefix" in str(one.message)]
    assert "'layer1'" in str(found.message)
    assert "'layer0'" in str(found.message)
    assert found.filename == __file__


def test_two_layers_whose_metrics_have_names_of_their_own_do_not_warn() -> None:
    model = two_layers("", "fine_")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*metric_prefix")
        model.fit(list(pairs().values()), verbose=0)


# --- The trained temperature ------------------------------------------------------------


def test_a_trained_temperature_starts_where_a_fixed_one_stays() -> None:
    trained = NegativeCosineLoss(5, scale=12.5, temperature=0.7, learn_temperature=True)
    found = keras_steps.loss_of(trained, some_inputs())
    fixed = NegativeCosineLoss(5, scale=12.5, temperature=0.7)
    expected = keras_steps.loss_of(fixed, some_inputs())
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    assert [weight.name for weight in trained.trainable_weights] == ["log_logit_scale"]
    assert fixed.weights == []


@pytest.mark.parametrize(("learning_rate", "bound"), [(1e3, 30.0), (-1e3, 10.0)])
def test_training_stops_the_temperature_at_its_bounds(
    learning_rate: float, bound: float
) -> None:
    layer = NegativeCosineLoss(3, learn_temperature=True, logit_scale_bounds=(10.0, 30.0))
    # The positives are the nearest: a larger scale always lowers the loss.
    rows = tf.eye(8)
    layer([rows, rows])
    optimizer = keras.optimizers.SGD(1.0)
    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = learning_rate * 1e9 * keras_steps.loss_of(layer, [rows, rows])
        gradients = tape.gradient(loss, layer.trainable_weights)
        optimizer.apply(gradients, layer.trainable_weights)
    assert float(tf.exp(layer.log_logit_scale)) == pytest.approx(bound, rel=1e-5)


def test_at_a_bound_the_temperature_still_has_a_gradient() -> None:
    layer = NegativeCosineLoss(
        5, scale=30.0, learn_temperature=True, logit_scale_bounds=(10.0, 30.0)
    )
    layer(some_inputs())
    with tf.GradientTape() as tape:
        loss = keras_steps.loss_of(layer, some_inputs())
    (gradient,) = tape.gradient(loss, layer.trainable_weights)
    assert float(gradient) != 0


def test_a_weight_set_beyond_its_bounds_counts_as_the_bound() -> None:
    layer = NegativeCosineLoss(5, learn_temperature=True, logit_scale_bounds=(10.0, 30.0))
    layer(some_inputs())
    layer.log_logit_scale.assign(100.0)
    found = keras_steps.loss_of(layer, some_inputs())
    bound = keras_steps.loss_of(NegativeCosineLoss(5, scale=30.0), some_inputs())
    assert float(found) == pytest.approx(float(bound), rel=1e-5)


# --- Saving -----------------------------------------------------------------------------

OPTIONS: list[dict[str, Any]] = [
    {"num_negatives": 7},
    {"num_negatives": None},
    {"sampler": "ring"},
    {"num_negatives": None, "sampler": "all"},
    {"seed": (1, 2**40)},
    {"evaluation_seed": (5, 6)},
    {"scale": 3.0},
    {"temperature": 0.25},
    {"learn_temperature": True},
    {"logit_scale_bounds": (0.5, 200.0)},
    {"margin": 0.1},
    {"negative_weight": 2.5},
    {"negative_weight": "auto"},
    {"mask_self": False},
    {"normalize_over": "batch"},
    {"reduction": "sum"},
    {"implementation": "reference"},
    {"recall_at": (1, 5)},
    {"metric_prefix": "x_"},
    {"name": "loss_layer"},
    {"dtype": "mixed_float16"},
    {"trainable": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_survives_the_configuration(options: dict[str, Any]) -> None:
    layer = NegativeCosineLoss(**{"num_negatives": 3, **options})
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert isinstance(again, NegativeCosineLoss)
    assert again.get_config() == layer.get_config()
    for name, value in options.items():
        if name != "dtype":
            assert getattr(again, name) == value


def test_a_saved_model_evaluates_and_trains_on_as_before(tmp_path: Path) -> None:
    layer = NegativeCosineLoss(5, seed=(1, 2), learn_temperature=True)
    model = functional_model(layer)
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(pairs(), batch_size=16, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")

    def go_on(model: keras.Model) -> list[float]:
        scores = model.evaluate(pairs(), batch_size=16, verbose=0)
        history = model.fit(pairs(), batch_size=16, shuffle=False, verbose=0).history
        return [*scores, *(values[0] for values in history.values())]

    np.testing.assert_allclose(go_on(again), go_on(model), rtol=1e-6)


# --- XLA --------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", ["auto", "native"])
def test_it_says_whether_xla_can_compile_it(implementation: str) -> None:
    layer = NegativeCosineLoss(5, implementation=implementation)
    assert layer.supports_jit == xla_kernel_available()


def test_with_the_reference_xla_compiles_the_whole_step() -> None:
    keras.utils.set_random_seed(0)
    model = functional_model(NegativeCosineLoss(5, implementation="reference"))
    model.compile(keras.optimizers.Adam(0.03), jit_compile=True)
    assert model.jit_compile
    history = model.fit(pairs(), batch_size=16, epochs=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]


def test_nothing_is_dropped_where_there_is_no_candidate() -> None:
    layer = NegativeCosineLoss(sampler="all")
    keras_steps.test_step(layer, [tf.ones([1, 4]), tf.ones([1, 4])])
    assert results(layer)["dropped_share"] == 0


# --- Weights ----------------------------------------------------------------------------


def fitted_kernel(weight: Any, **arguments: Any) -> Array:
    """A tower's kernel after one step with an input ``sample_weight``, or without."""
    keras.utils.set_random_seed(0)
    more = (
        {} if weight is None else {"sample_weight": keras.Input([], name="sample_weight")}
    )
    model = functional_model(NegativeCosineLoss(sampler="all"), **more)
    model.compile(keras.optimizers.SGD(0.1))
    data = dict(pairs())
    if weight is not None:
        data["sample_weight"] = weight
    model.fit(data, batch_size=64, verbose=0, shuffle=False, **arguments)
    return keras.ops.convert_to_numpy(model.get_layer("query_tower").kernel)


def test_a_weight_input_weighs_the_rows() -> None:
    weight = np.linspace(0, 2, 64, dtype=np.float32)
    assert abs(fitted_kernel(weight) - fitted_kernel(None)).max() > 1e-3


LABELS = np.arange(64) % 2
FIT_WEIGHTS: dict[str, dict[str, Any]] = {
    "class_weight": {"y": LABELS, "class_weight": {0: 0.0, 1: 9.0}},
    "sample_weight": {"y": LABELS, "sample_weight": np.linspace(0, 2, 64)},
}
WEIGHTS_REFUSED = (
    "class_weight and sample_weight of fit and evaluate .* reach only losses given to "
    "compile, got weights for negative_cosine_loss.*the layer's input sample_weight"
)


WAYS_TO_RUN: dict[str, dict[str, Any]] = {
    "graph": {},
    "eager": {"run_eagerly": True},
    "steps": {"steps_per_execution": 2},
    "xla": {"jit_compile": True},
}


def model_without_a_loss(**settings: Any) -> keras.Model:
    """Compiled, and the layer alone adds a loss."""
    model = functional_model(NegativeCosineLoss(sampler="all", name="negative_cosine_loss"))
    model.compile("sgd", **settings)
    return model


@pytest.mark.parametrize("settings", WAYS_TO_RUN.values(), ids=WAYS_TO_RUN.keys())
@pytest.mark.parametrize("arguments", FIT_WEIGHTS.values(), ids=FIT_WEIGHTS.keys())
def test_weights_of_fit_are_refused_where_compile_has_no_loss(
    arguments: dict[str, Any], settings: dict[str, Any]
) -> None:
    model = model_without_a_loss(**settings)
    with pytest.raises(ValueError, match=WEIGHTS_REFUSED):
        model.fit(dict(pairs()), verbose=0, **arguments)


def test_weights_are_refused_on_several_replicas() -> None:
    with mirrored_strategy().scope():
        model = model_without_a_loss()
    with pytest.raises(ValueError, match=WEIGHTS_REFUSED):
        model.fit(dict(pairs()), verbose=0, **FIT_WEIGHTS["class_weight"])


def test_weights_are_refused_after_epochs_without_them() -> None:
    model = model_without_a_loss()
    model.fit(dict(pairs()), y=LABELS, verbose=0)
    with pytest.raises(ValueError, match=WEIGHTS_REFUSED):
        model.fit(dict(pairs()), verbose=0, **FIT_WEIGHTS["class_weight"])


def test_weights_of_evaluate_and_of_a_dataset_are_refused_too() -> None:
    model = model_without_a_loss()
    with pytest.raises(ValueError, match=WEIGHTS_REFUSED):
        model.evaluate(dict(pairs()), verbose=0, **FIT_WEIGHTS["sample_weight"])
    triples = tf.data.Dataset.from_tensor_slices(
        (dict(pairs()), LABELS, np.ones(64, np.float32))
    )
    with pytest.raises(ValueError, match=WEIGHTS_REFUSED):
        model.fit(triples.batch(32), verbose=0)


def test_weights_that_a_loss_of_compile_takes_are_left_to_it() -> None:
    towers = functional_model(NegativeCosineLoss(sampler="all"))
    score = keras.layers.Dot(1, name="score")(list(towers.output))
    model = keras.Model(towers.input, score)
    model.compile("sgd", loss="mse")
    model.fit(dict(pairs()), verbose=0, **FIT_WEIGHTS["class_weight"])


def test_weights_that_a_model_of_ones_own_takes_are_left_to_it() -> None:
    class Weighted(keras.Model):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            return 2.0 * super().compute_loss(*args, **kwargs)

    towers = functional_model(NegativeCosineLoss(sampler="all"))
    model = Weighted(towers.input, towers.output)
    model.compile("sgd")
    model.fit(dict(pairs()), verbose=0, **FIT_WEIGHTS["sample_weight"])


def test_class_weights_without_labels_end_in_an_error_of_keras() -> None:
    with pytest.raises(IndexError, match="tuple index out of range"):
        fitted_kernel(None, class_weight={0: 1.0, 1: 2.0})


# --- Refusals ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_negatives": 0}, "num_negatives must be an integer from 1 to .*, got 0"),
        ({"sampler": "random"}, "sampler must be one of 'shuffle', 'ring', 'all'"),
        ({"seed": (1, 2, 3)}, r"seed must be two integers.*\(3,\)"),
        ({"evaluation_seed": (1.5, 2)}, "evaluation_seed must be two integers"),
        ({"evaluation_seed": None}, "evaluation_seed must be two integers, got None"),
        ({"scale": 0.0}, "scale must be a finite number above 0, got 0"),
        ({"temperature": -1.0}, "temperature must be a finite number above 0, got -1"),
        ({"scale": tf.constant(2.0)}, "scale must be a number.*learn_temperature=True"),
        ({"margin": float("inf")}, "margin must be a finite number, got inf"),
        ({"negative_weight": 0.0}, "negative_weight must be a finite number above 0 or"),
        (
            {"negative_weight": "auto", "num_negatives": None},
            "negative_weight must be a number where negative_indices are given, got 'auto'",
        ),
        ({"mask_self": 1}, "mask_self must be True or False, got 1"),
        ({"learn_temperature": 1}, "learn_temperature must be True or False, got 1"),
        ({"logit_scale_bounds": (2.0, 1.0)}, "logit_scale_bounds must be two finite"),
        (
            {"scale": 200.0, "learn_temperature": True},
            "scale / temperature must start within logit_scale_bounds.*got 200",
        ),
        ({"normalize_over": "row"}, "normalize_over must be one of 'candidates', 'batch'"),
        ({"reduction": "none"}, "reduction must be one of 'mean', 'sum', got 'none'"),
        ({"implementation": "gpu"}, "implementation must be one of 'auto', 'native', 'ref"),
        ({"recall_at": 10}, "recall_at must be a list of integers, got 10"),
        ({"recall_at": (0,)}, "recall_at must be an integer from 1 to .*got 0"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_wrong_option_is_refused_when_the_layer_is_made(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        NegativeCosineLoss(**{"num_negatives": 3, **options})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([tf.ones([4, 2])], "inputs must be .query, doc."),
        ({"query": tf.ones([4, 2])}, "inputs must have the keys query, doc and any of"),
        ({**some_inputs(), "ids": tf.ones([4])}, "and any of doc_ids, .*got doc, ids, q"),
    ],
)
def test_wrong_inputs_are_refused(inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NegativeCosineLoss(3)(inputs)


def test_wrong_shapes_are_refused_while_the_model_is_built() -> None:
    with pytest.raises(ValueError, match="doc must have query's embedding size 4"):
        NegativeCosineLoss(3)([keras.Input([4]), keras.Input([5])])


def test_without_candidates_a_call_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="num_negatives or negative_indices, got neither"):
        keras_steps.test_step(NegativeCosineLoss(), some_inputs())


WRONG_INPUTS = r"inputs must be \[query, doc\].*, got 2 arguments.*compile needs no loss"


def test_two_arguments_are_refused_by_what_to_write() -> None:
    with pytest.raises(ValueError, match=WRONG_INPUTS):
        NegativeCosineLoss(10)(tf.ones([4, 2]), tf.ones([4, 2]))


def test_the_layer_as_a_loss_of_compile_is_refused_by_what_to_write() -> None:
    query = keras.Input([8])
    model = keras.Model(query, keras.layers.Dense(8)(query))
    model.compile("sgd", loss=NegativeCosineLoss(10))
    with pytest.raises(ValueError, match=WRONG_INPUTS):
        model.fit(*pairs().values(), verbose=0)


def test_the_inputs_may_be_named_as_an_argument() -> None:
    layer = NegativeCosineLoss(3, recall_at=())
    layer(inputs=[tf.eye(4), tf.eye(4)], training=True)
    assert len(layer.losses) == 1
