"""A warning names the line of the user's code that led to it, through all frameworks."""

from __future__ import annotations

import inspect
import linecache
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import _loss, fused_negative_cosine_loss

from tests.support.installed import installation, start_with

ROWS = np.eye(4, 6, dtype=np.float32)


def loss_of(rows: Any) -> Any:
    return fused_negative_cosine_loss(rows, rows, 2, seed=(1, 2))  # the caller's line


def eagerly() -> None:
    loss_of(ROWS)


def in_a_function() -> None:
    tf.function(loss_of, autograph=False)(ROWS)


def in_a_function_within_a_condition() -> None:
    @tf.function(autograph=False)
    def step(rows: tf.Tensor) -> tf.Tensor:
        return tf.cond(rows[0, 0] > 0, lambda: loss_of(rows), lambda: 0.0)

    step(ROWS)


def under_a_strategy() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    strategy.run(loss_of, (tf.constant(ROWS),))


class Model(keras.Model):
    """A model whose call is the loss."""

    def call(self, rows: Any) -> Any:
        return loss_of(rows)


def in_a_call_of_keras() -> None:
    Model()(ROWS)


def while_keras_fits() -> None:
    model = Model()
    model.compile("adam", loss=lambda labels, loss: loss)
    model.fit(ROWS, np.zeros(4), epochs=1, verbose=0)


@pytest.fixture
def without_the_op(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = _loss.Choice(False, "there is none", "wait")
    monkeypatch.setattr(_loss, "choose_implementation", lambda device: choice)
    _loss._warn_once.cache_clear()


def the_warning_of(action: Callable[[], None]) -> warnings.WarningMessage:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        action()
    (warning,) = [one for one in caught if "there is none" in str(one.message)]
    return warning


@pytest.mark.parametrize(
    "action",
    [
        eagerly,
        in_a_function,
        in_a_function_within_a_condition,
        under_a_strategy,
        in_a_call_of_keras,
        while_keras_fits,
    ],
)
@pytest.mark.usefixtures("without_the_op")
def test_a_warning_names_the_callers_line(action: Callable[[], None]) -> None:
    warning = the_warning_of(action)
    assert warning.filename == __file__
    assert "# the caller's line" in linecache.getline(warning.filename, warning.lineno)
    assert warning.category is RuntimeWarning


def loss_of_sorted(rows: tf.Tensor) -> Any:
    if rows[0, 0] < rows[1, 0]:  # which AutoGraph rewrites
        rows = rows[::-1]
    return fused_negative_cosine_loss(rows, rows, 2, seed=(1, 2))


@pytest.mark.usefixtures("without_the_op")
def test_a_function_that_autograph_rewrote_is_named_by_its_callers_line() -> None:
    warning = the_warning_of(lambda: tf.function(loss_of_sorted)(ROWS))
    assert warning.filename == __file__


@pytest.mark.usefixtures("without_the_op")
def test_in_a_replicas_thread_a_rewritten_function_is_named_itself() -> None:
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    def step() -> None:
        strategy.run(loss_of_sorted, (tf.constant(ROWS),))

    warning = the_warning_of(lambda: tf.function(step)())
    assert "loss_of_sorted" in Path(warning.filename).read_text()


@pytest.mark.usefixtures("without_the_op")
def test_a_filter_by_the_callers_module_applies() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module=__name__)
        loss_of(ROWS)


def test_an_import_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("raise ImportError('none')")
    package = installation(tmp_path)
    (package / "_build_info.json").write_text('{"tensorflow": null}')
    (tmp_path / "user.py").write_text("1\nimport negative_cosine\n")
    result = start_with(package, "user.py")
    assert f"{tmp_path / 'user.py'}:2: UserWarning: negative_cosine was" in result.stderr


def test_all_warnings_of_the_package_go_one_way() -> None:
    elsewhere = [
        path.name
        for path in Path(inspect.getfile(_loss)).parent.glob("*.py")
        if "warnings.warn" in path.read_text() and path.name != "_warnings.py"
    ]
    assert elsewhere == []
