"""Outside of training and test steps the Keras layers have no side effects."""

from __future__ import annotations

import linecache
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import DocumentFrequency, DocumentQueue, NegativeCosineLoss

from tests.keras import keras_steps
from tests.support.cases import Array

ROWS, DIM, BATCH = 32, 6, 8


def data() -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {
        "query": random.normal(size=(ROWS, DIM)).astype("f"),
        "doc": random.normal(size=(ROWS, DIM)).astype("f"),
        "doc_ids": random.integers(0, 20, ROWS),
    }


def first_batch() -> dict[str, tf.Tensor]:
    return {name: tf.constant(rows[:BATCH]) for name, rows in data().items()}


def new_model(make: Any = keras.Model) -> keras.Model:
    """Towers, frequencies, a queue and the loss, of the class ``make``."""
    keras.utils.set_random_seed(0)
    inputs = {
        "query": keras.Input([DIM], name="query"),
        "doc": keras.Input([DIM], name="doc"),
        "doc_ids": keras.Input([], dtype="int64", name="doc_ids"),
    }
    candidates = {
        "doc": keras.layers.Dense(DIM)(inputs["doc"]),
        "doc_ids": inputs["doc_ids"],
        "doc_log_q": DocumentFrequency(100)(inputs["doc_ids"]),
    }
    query = keras.layers.Dense(DIM)(inputs["query"])
    layer = NegativeCosineLoss(5, seed=(1, 2), recall_at=(2,), name="loss_layer")
    outputs = layer({"query": query, **DocumentQueue(12)(candidates)})
    model = make(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.1))
    return model


def state(model: keras.Model) -> list[Array]:
    """Weights and metrics."""
    variables = [*model.variables, *model.metrics_variables]
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def assert_same(found: list[Array], expected: list[Array]) -> None:
    for value, want in zip(found, expected, strict=True):
        np.testing.assert_array_equal(value, want)


def losses_of(model: keras.Model) -> list[Any]:
    """Without the warning that there are none."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", NO_LOSS)
        return list(model.losses)


NO_LOSS = "NegativeCosineLoss 'loss_layer' added no loss in its last call"


# --- Inference --------------------------------------------------------------------------

INFERENCE: dict[str, Callable[[keras.Model], Any]] = {
    "model(x)": lambda model: model(first_batch()),
    "training=False": lambda model: model(first_batch(), training=False),
    "tf.function": lambda model: tf.function(model)(first_batch()),
    "predict": lambda model: model.predict(data(), batch_size=BATCH, verbose=0),
    "predict_on_batch": lambda model: model.predict_on_batch(first_batch()),
    "predict_step": lambda model: model.predict_step((first_batch(),)),
}


@pytest.mark.parametrize("infer", INFERENCE.values(), ids=INFERENCE)
def test_inference_adds_no_loss_and_moves_nothing(infer: Any) -> None:
    model = new_model()
    model.fit(data(), batch_size=BATCH, verbose=0)
    before = state(model)
    infer(model)
    assert losses_of(model) == []
    assert_same(state(model), before)


@pytest.mark.parametrize("eagerly", [False, True], ids=["graph", "eager"])
@pytest.mark.parametrize("infer", INFERENCE.values(), ids=INFERENCE)
def test_inference_in_a_callback_changes_no_epoch(infer: Any, eagerly: bool) -> None:
    def run(*callbacks: Any) -> tuple[dict[str, Any], list[Array]]:
        model = new_model()
        model.run_eagerly = eagerly
        options = {"batch_size": BATCH, "epochs": 2, "shuffle": False, "verbose": 0}
        history = model.fit(
            data(), validation_data=(data(),), callbacks=list(callbacks), **options
        )
        return history.history, state(model)

    class Infers(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            infer(self.model)

        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            infer(self.model)

    history, after = run(Infers())
    expected, expected_after = run()
    assert history == expected
    assert_same(after, expected_after)


def test_inference_runs_none_of_the_losss_ops() -> None:
    model = new_model()
    graph = tf.function(model).get_concrete_function(first_batch()).graph
    kinds = {op.type for op in graph.get_operations()}
    assert not {kind for kind in kinds if "NegativeCosine" in kind or "Random" in kind}


def test_it_passes_its_inputs_on() -> None:
    query, doc = tf.ones([3, 2]), tf.ones([4, 2])
    found = NegativeCosineLoss(2, recall_at=())([query, doc])
    assert found[0] is query
    assert found[1] is doc


def test_inference_still_names_a_wrong_input() -> None:
    layer = NegativeCosineLoss(2, recall_at=())
    with pytest.raises(ValueError, match="inputs must have the keys query, doc"):
        layer({"query": tf.ones([3, 2]), "docs": tf.ones([3, 2])})


# --- Steps ------------------------------------------------------------------------------


def test_training_is_a_step_wherever_it_is_called() -> None:
    layer = NegativeCosineLoss(2, recall_at=())
    layer([tf.eye(4), tf.eye(4)], training=True)
    assert len(layer.losses) == 1


@pytest.mark.parametrize("name", ["train_step", "test_step"])
@pytest.mark.parametrize(
    "wrap",
    [lambda step: step, tf.function, tf.function(autograph=False)],
    ids=["eager", "autograph", "graph"],
)
def test_a_function_of_a_steps_name_is_one(wrap: Any, name: str) -> None:
    model = new_model()

    def train_step(batch: Any) -> tf.Tensor:
        model(batch)
        return tf.add_n(model.losses)

    def test_step(batch: Any) -> tf.Tensor:
        model(batch)
        return tf.add_n(model.losses)

    step = {"train_step": train_step, "test_step": test_step}[name]
    assert float(wrap(step)(first_batch())) > 0


class OwnSteps(keras.Model):
    """Steps as a user writes them."""

    def train_step(self, batch: Any) -> Any:
        (inputs,) = batch
        with tf.GradientTape() as tape:
            self(inputs, training=True)
            loss = tf.add_n(self.losses)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"own_loss": loss}

    def test_step(self, batch: Any) -> Any:
        (inputs,) = batch
        self(inputs, training=False)
        return {"own_loss": tf.add_n(self.losses)}


@pytest.mark.parametrize("eagerly", [False, True], ids=["graph", "eager"])
def test_steps_that_a_model_overrides_are_steps(eagerly: bool) -> None:
    model = new_model(OwnSteps)
    model.run_eagerly = eagerly
    dataset = tf.data.Dataset.from_tensors((first_batch(),))
    assert model.fit(dataset, verbose=0).history["own_loss"][0] > 0
    assert model.evaluate(dataset, verbose=0, return_dict=True)["own_loss"] > 0


def test_batches_trained_and_tested_alone_are_steps() -> None:
    model = new_model()
    trained = model.train_on_batch(data(), return_dict=True)
    tested = model.test_on_batch(data(), return_dict=True)
    assert trained["loss"] > 0
    assert tested["loss"] > 0


def test_inference_inside_of_a_step_is_none() -> None:
    model = new_model()

    def train_step() -> None:
        model.predict(data(), batch_size=BATCH, verbose=0)
        model.predict_step((first_batch(),))

    before = state(model)
    train_step()
    assert losses_of(model) == []
    assert_same(state(model), before)


class MinesFirst(keras.Model):
    """Looks at its embeddings before each step, as a teacher or a miner does."""

    def train_step(self, batch: Any) -> Any:
        self(batch[0], training=False)
        return super().train_step(batch)


@pytest.mark.parametrize("eagerly", [False, True], ids=["graph", "eager"])
def test_inference_by_the_model_itself_in_its_step_is_none(eagerly: bool) -> None:
    histories = []
    for kind in (keras.Model, MinesFirst):
        model = new_model(kind)
        model.run_eagerly = eagerly
        dataset = tf.data.Dataset.from_tensors((first_batch(),)).repeat(3)
        histories.append(model.fit(dataset, epochs=2, verbose=0).history)
    for name, values in histories[0].items():
        assert histories[1][name] == pytest.approx(values), name


class NeverTrains(OwnSteps):
    """Gives False in its own train_step: as one does to freeze BatchNormalization."""

    def train_step(self, batch: Any) -> Any:
        self(batch[0], training=False)
        return {"own_loss": sum(self.losses)}


def test_a_loss_that_a_train_step_reads_after_inference_is_missed_with_a_warning() -> None:
    model = new_model(NeverTrains)
    dataset = tf.data.Dataset.from_tensors((first_batch(),))
    with pytest.warns(UserWarning, match="added no loss.* gave training=False"):
        model.fit(dataset, verbose=0)


def test_a_saved_model_of_a_function_of_a_steps_name_holds_no_loss(tmp_path: Path) -> None:
    model = new_model()
    model.fit(data(), batch_size=BATCH, verbose=0)

    def train_step() -> None:  # of a pipeline
        tf.saved_model.save(model, tmp_path)

    train_step()
    tf.saved_model.load(tmp_path)


class ReadsItsLoss(keras.callbacks.Callback):
    """Judges the model by a loss of its own, in a place where the layer adds none."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model(first_batch(), training=False)
        assert sum(self.model.losses) == 0


def test_a_callback_that_reads_a_loss_that_was_not_added_is_told() -> None:
    with pytest.warns(UserWarning, match="added no loss in its last call") as warned:
        new_model().fit(data(), batch_size=BATCH, verbose=0, callbacks=[ReadsItsLoss()])
    (own,) = (warning for warning in warned if "added no loss" in str(warning.message))
    assert own.filename == __file__


def test_what_keras_runs_for_a_function_of_a_steps_name_is_judged_by_itself() -> None:
    """Such as a step of a pipeline that fits a model and infers in a callback."""
    model = new_model()
    losses: list[Any] = []

    def look(batch: int, logs: Any = None) -> None:
        model(first_batch())
        losses.extend(losses_of(model))

    def train_step() -> None:
        callback = keras.callbacks.LambdaCallback(on_train_batch_end=look)
        model.fit(data(), batch_size=BATCH, verbose=0, callbacks=[callback])

    train_step()
    assert losses == []


class WithoutTrainingArgument(keras.Model):
    """Keras tells neither it nor its layers that it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.frequency, self.queue = DocumentFrequency(100), DocumentQueue(12)
        self.loss_layer = NegativeCosineLoss(5, seed=(1, 2), recall_at=())

    def call(self, inputs: Any) -> Any:
        ids = inputs["doc_ids"]
        documents = {"doc": inputs["doc"], "doc_ids": ids, "doc_log_q": self.frequency(ids)}
        return self.loss_layer({"query": inputs["query"], **self.queue(documents)})


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
def test_a_model_that_is_not_told_of_training_trains_all_the_same() -> None:
    model = WithoutTrainingArgument()
    model.compile("sgd")
    model.fit(data(), batch_size=BATCH, verbose=0)
    advanced = (
        model.frequency.step,
        model.queue.rows_written,
        model.loss_layer.num_draws,
    )
    expected = [ROWS // BATCH, ROWS, ROWS // BATCH]
    assert [int(weight) for weight in advanced] == expected
    model.evaluate(data(), batch_size=BATCH, verbose=0)
    assert [int(weight) for weight in advanced] == expected


# --- Losses that nobody computed --------------------------------------------------------


def one_warning_of(loop: Callable[[], Any]) -> warnings.WarningMessage:
    """By Python's own filter: once for each line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        loop()
    (warning,) = [one for one in caught if NO_LOSS in str(one.message)]
    return warning


@pytest.mark.parametrize("training", [{}, {"training": False}], ids=str)
def test_the_losses_of_a_loop_of_ones_own_that_is_no_step_warn(training: Any) -> None:
    model = new_model()

    def validate() -> None:
        total = 0.0
        for _ in range(3):
            model(first_batch(), **training)
            total += sum(model.losses)  # the loop's line
        assert total == 0

    warning = one_warning_of(validate)
    assert "name the function that calls the model test_step" in str(warning.message)
    assert "fused_negative_cosine_loss" in str(warning.message)
    assert warning.filename == __file__
    assert "# the loop's line" in linecache.getline(warning.filename, warning.lineno)


@pytest.mark.parametrize("autograph", [True, False])
def test_the_losses_of_a_graph_of_ones_own_that_is_no_step_warn(autograph: bool) -> None:
    model = new_model()

    def validate(batch: Any) -> Any:
        model(batch)
        return tf.add_n([*model.losses, 0.0])

    one_warning_of(lambda: tf.function(validate, autograph=autograph)(first_batch()))


def test_the_loss_of_keras_in_a_loop_that_is_no_step_warns() -> None:
    model = new_model()
    model.compile(loss=[keras.losses.MeanSquaredError(), None])
    batch = first_batch()
    one_warning_of(
        lambda: model.compute_loss(
            batch, [batch["query"], None], model(batch, training=False)
        )
    )


def test_losses_that_a_later_call_added_do_not_warn() -> None:
    model = new_model()
    model(first_batch())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in (keras_steps.train_step, keras_steps.test_step):
            step(model, first_batch())
            assert len(model.losses) == 1


class WithDefaultCall(keras.Model):
    """Keras builds it by calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = keras.layers.Dense(DIM)
        self.loss_layer = NegativeCosineLoss(5, recall_at=(), name="loss_layer")

    def call(self, inputs: Any) -> Any:
        return self.loss_layer([self.tower(inputs["query"]), inputs["doc"]])[0]


USES: dict[str, Callable[[keras.Model, Path], Any]] = {
    "fit": lambda model, _: model.fit(data(), validation_data=(data(),), verbose=0),
    "evaluate": lambda model, _: model.evaluate(data(), verbose=0),
    "predict": lambda model, _: model.predict(data(), verbose=0),
    "train_on_batch": lambda model, _: model.train_on_batch(data()),
    "test_on_batch": lambda model, _: model.test_on_batch(data()),
    "predict_on_batch": lambda model, _: model.predict_on_batch(data()),
    "build": lambda model, _: model.build({n: x.shape for n, x in data().items()}),
    "summary": lambda model, _: model.summary(print_fn=lambda text: None),
    "model(x)": lambda model, _: model(first_batch()),
    "save": lambda model, path: model.save(path / "model.keras"),
    "export": lambda model, path: model.export(path / "model", verbose=False),
    "saved model": lambda model, path: tf.saved_model.save(model, str(path / "model")),
    "checkpoint": lambda model, path: tf.train.Checkpoint(m=model).write(path / "model"),
}
NEEDS_A_CALL = ("summary", "save", "export", "saved model", "checkpoint")


@pytest.mark.parametrize("make", [new_model, WithDefaultCall])
@pytest.mark.parametrize("name", USES)
def test_what_keras_does_with_a_model_does_not_warn(
    make: Any, name: str, tmp_path: Path, capfd: Any
) -> None:
    model = make()
    model.compile("sgd", loss=None)
    if name in NEEDS_A_CALL:
        model(first_batch())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", NO_LOSS)
        USES[name](model, tmp_path)
    assert NO_LOSS not in "".join(capfd.readouterr())


def test_what_keras_does_with_a_model_and_a_loss_of_compile_does_not_warn() -> None:
    model = WithDefaultCall()
    model.compile("sgd", loss="mse", metrics=["mae"])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", NO_LOSS)
        model.train_on_batch(data(), data()["query"])  # which builds it
        model.fit(data(), data()["query"], verbose=0)


# --- Serving ----------------------------------------------------------------------------

SERVE = """
import sys
sys.modules["negative_cosine"] = None  # this process does not have the package
import numpy as np
import tensorflow as tf
served = tf.saved_model.load("model")
batch = {name: tf.constant(rows) for name, rows in np.load("batch.npz").items()}
query, doc = served.serve(batch)
np.savez("served.npz", query=query, doc=doc)
"""


def export(model: keras.Model, path: Path) -> None:
    model.export(path, verbose=False)


def save(model: keras.Model, path: Path) -> None:
    serve = tf.function(
        model,
        input_signature=[
            {
                name: tf.TensorSpec([None, *rows.shape[1:]], rows.dtype, name=name)
                for name, rows in first_batch().items()
            }
        ],
    )
    model.serve = serve
    tf.saved_model.save(model, str(path))


@pytest.mark.parametrize("write", [export, save])
def test_a_model_that_holds_the_layers_serves_where_the_package_is_absent(
    write: Any, tmp_path: Path
) -> None:
    model = new_model()
    model.fit(data(), batch_size=BATCH, verbose=0)
    write(model, tmp_path / "model")
    np.savez(tmp_path / "batch.npz", **first_batch())
    serving = subprocess.run(
        [sys.executable, "-c", SERVE], cwd=tmp_path, capture_output=True, text=True
    )
    assert serving.returncode == 0, serving.stderr
    served = np.load(tmp_path / "served.npz")
    query, doc = model(first_batch())
    np.testing.assert_allclose(served["query"], query, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(served["doc"], doc, rtol=1e-5, atol=1e-6)


def test_the_helpers_of_the_tests_are_steps() -> None:
    layer = NegativeCosineLoss(2, recall_at=())
    for step in (keras_steps.train_step, keras_steps.test_step):
        step(layer, [tf.eye(4), tf.eye(4)])
        assert len(layer.losses) == 1
