"""Runs one call of the loss in one of several kinds of program, and judges it.

Each argument comes by name: what a program is fed with, as arrays, and all else as it is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from negative_cosine import (
    fused_negative_cosine_loss,
    reference_negative_cosine_loss,
)

from tests.loss.argument_forms import Setting
from tests.loss.argument_kinds import Embeddings, Floats, Ids, Seed, Table
from tests.support import oracle
from tests.support.cases import (
    GRADIENT_NAMES,
    Array,
    assert_gradients_close,
    assert_values_close,
    rounded_gradients,
)

v1 = tf.compat.v1

Arguments = dict[str, Any]
Step = Callable[[Arguments], Any]
REFUSALS = (ValueError, tf.errors.InvalidArgumentError)
# What a compiled program makes of an InvalidArgumentError.
COMPILED_REFUSALS = (ValueError, tf.errors.OpError)
# The arguments of the loss that a setting may leave out.
OPTIONAL = (
    "doc_ids",
    "query_ids",
    "doc_log_q",
    "sample_weight",
    "margin",
    "negative_weight",
    "mask_self",
)


# --- Calls -------------------------------------------------------------------------------


def usual_arguments(setting: Setting) -> Arguments:
    """Right arguments of the loss, as plain values and arrays."""
    real = setting.compute_dtype
    tensors = {
        "query": Embeddings("query"),
        "doc": Embeddings("doc"),
        "negative_indices": Table(),
        "seed": Seed(),
        "doc_ids": Ids("doc"),
        "query_ids": Ids("query"),
        "doc_log_q": Floats("doc", may_be_low=False),
        "sample_weight": Floats("query", may_be_low=True, may_be_mask=True),
    }
    found: Arguments = {name: kind.usual(setting, name) for name, kind in tensors.items()}
    for name in ("doc_log_q", "sample_weight"):
        found[name] = found[name].astype(real)
    found |= {
        "scale": real(12.5),
        "temperature": real(0.75),
        "margin": 0.125,
        "negative_weight": 2.5,
        "mask_self": False,
        "normalize_over": setting.normalize_over,
        "reduction": setting.reduction,
    }
    for name in OPTIONAL:
        if name not in setting.names:
            del found[name]
    if setting.source == "indices":
        del found["seed"]
        return found
    del found["negative_indices"]
    is_all = setting.source == "all"
    return {
        **found,
        "sampler": setting.source,
        "num_negatives": None if is_all else setting.k,
    }


def loss_and_gradients(implementation: str, arguments: Arguments) -> dict[str, Any]:
    """The loss, its statistics unless they are declined, the gradients there are."""
    watched = {
        name: _source(arguments[name])
        for name in GRADIENT_NAMES
        if isinstance(arguments.get(name), tf.Tensor | tf.Variable | keras.Variable)
        and tf.as_dtype(arguments[name].dtype).is_floating
    }
    with tf.GradientTape() as tape:
        tape.watch(watched)
        loss = call(implementation, arguments)
        loss, stats = loss if isinstance(loss, tuple) else (loss, None)
    gradients = tape.gradient(loss, watched)
    results = {"loss": loss, **(stats._asdict() if stats is not None else {})}
    return results | {f"{name}_gradient": value for name, value in gradients.items()}


def _source(argument: Any) -> Any:
    """What a tape knows of an argument."""
    return argument.value if isinstance(argument, keras.Variable) else argument


def call(implementation: str, arguments: Arguments) -> Any:
    """By the public function of the implementation."""
    arguments = {"return_stats": True, **arguments}
    if implementation == "reference":
        return reference_negative_cosine_loss(**arguments)
    return fused_negative_cosine_loss(**{"implementation": implementation, **arguments})


# --- Programs ----------------------------------------------------------------------------


def run_eagerly(step: Step) -> Step:
    """Without any graph."""
    return lambda fed: step(_tensors(fed))


def run_in_function(step: Step) -> Step:
    """In a tf.function that knows the sizes."""
    function = tf.function(step, autograph=False)
    return lambda fed: function(_tensors(fed))


def run_compiled(step: Step) -> Step:
    """The same, compiled by XLA."""
    function = tf.function(step, autograph=False, jit_compile=True)
    return lambda fed: function(_tensors(fed))


def run_in_function_of_unknown_sizes(step: Step) -> Step:
    """In a tf.function that knows ranks alone."""

    @functools.cache
    def function_of(specs: Specs) -> Any:
        signature = {
            name: tf.TensorSpec([None] * rank, dtype) for name, dtype, rank in specs
        }
        return tf.function(step, input_signature=[signature], autograph=False)

    return lambda fed: function_of(_specs(fed))(_tensors(fed))


def run_in_session(step: Step) -> Step:
    """In a session of TensorFlow 1's kind, that feeds placeholders of known ranks."""

    @functools.cache
    def graph_of(specs: Specs) -> tuple[Any, Arguments, Any]:
        with tf.Graph().as_default() as graph:
            placeholders = {
                name: v1.placeholder(dtype, [None] * rank) for name, dtype, rank in specs
            }
            fetches = step(placeholders)
            session = v1.Session(graph=graph)
            session.run(v1.global_variables_initializer())
        return session, placeholders, fetches

    def run(fed: Arguments) -> Any:
        session, placeholders, fetches = graph_of(_specs(fed))
        return session.run(fetches, {placeholders[name]: fed[name] for name in fed})

    return run


Specs = tuple[tuple[str, Any, int], ...]


def _specs(fed: Arguments) -> Specs:
    return tuple(
        (name, tf.as_dtype(np.asarray(value).dtype.type), np.ndim(value))
        for name, value in fed.items()
    )


def _tensors(fed: Arguments) -> Arguments:
    return {name: tf.constant(value) for name, value in fed.items()}


PROGRAMS: dict[str, Callable[[Step], Step]] = {
    "eager": run_eagerly,
    "a function": run_in_function,
    "a function of unknown sizes": run_in_function_of_unknown_sizes,
    "a session": run_in_session,
    "XLA": run_compiled,
}


# --- Judging -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Refused:
    """What a call raised, if it may raise such."""

    error: Exception


def outcome(run: Callable[[], Any], program: str = "") -> dict[str, Array] | Refused:
    """Results as arrays by name, or a refusal; everything else goes on up."""
    refusals = COMPILED_REFUSALS if program == "XLA" else REFUSALS
    try:
        results = run()
    except refusals as error:
        return Refused(error)
    return {name: _array(value) for name, value in results.items()}


def _array(value: Any) -> Array:
    # NumPy makes no array of a bfloat16 scalar tensor by itself.
    return np.asarray(value.numpy() if isinstance(value, tf.Tensor) else value)


def assert_refused(found: Any, name: str) -> None:
    """That a refusal names the argument."""
    assert isinstance(found, Refused), f"accepted, with {next(iter(found.items()))}"
    assert re.search(rf"\b{name}\b", str(found.error)), f"unnamed: {found.error}"


def assert_no_plausible_number(found: Any, name: str) -> None:
    """That what no assertion can stop gives no number that one could believe."""
    if isinstance(found, Refused):
        assert_refused(found, name)
        return
    assert not np.isfinite(found["loss"]).all(), f"accepted, with loss {found['loss']}"


def judged(setting: Setting, arguments: Arguments) -> tuple[oracle.Result, Array, Array]:
    """The judge's result, the rows that meet NaN, and those that hold it.

    The judge knows no NaN: embeddings of it are ones there.
    """
    known = {
        name: value
        for name, value in arguments.items()
        if value is not None
        and name not in ("seed", "sampler", "num_negatives", "negative_indices")
        and name not in ("return_stats", "cross_replica", "implementation")
    }
    bad = {}
    for name in ("query", "doc"):
        rows = known[name].astype(np.float64)
        bad[name] = ~np.isfinite(rows).all(axis=1)
        known[name] = np.where(bad[name][:, None], 1.0, rows)
    table = _table(setting, arguments)
    result = oracle.negative_cosine_loss(table=table, **known)
    if "doc_log_q" in known:  # no positive of infinite logQ outranks a candidate
        own = np.isposinf(known["doc_log_q"][: setting.rows])
        lowest = np.where(own, np.finfo(float).min, result.positive_logit)
        result = result._replace(positive_logit=lowest)
    holds_nan = bad["query"] | bad["doc"][: setting.rows]
    if known.get("normalize_over") == "batch":
        return result, np.full(setting.rows, holds_nan.any()), holds_nan
    kept = np.isfinite(result.logits)
    meets = (kept & bad["doc"][table]).any(axis=1)
    # A row without candidates has loss 0, but its cosine is NaN where it holds that.
    return result, meets | holds_nan & kept.any(axis=1), holds_nan


def _table(setting: Setting, arguments: Arguments) -> Array:
    table = arguments.get("negative_indices")
    if table is not None:
        return np.asarray(table, np.int64)
    sampler = str(arguments.get("sampler", "shuffle"))
    k = arguments.get("num_negatives")
    if sampler == "all" or k is None:
        k = max(setting.docs - 1, 0)
    if not setting.rows:
        k = min(int(k), 10)  # of no row any number
    seed = arguments.get("seed")
    first, second = (0, 0) if seed is None else map(int, np.asarray(seed))
    return oracle.sample_negatives(
        setting.rows, setting.docs, int(k), sampler, (first, second)
    )


def without_missing_documents(table: Array, setting: Setting) -> Array:
    """The row's own number, which its document's id drops, for one that is no document."""
    own = np.arange(setting.rows)[:, np.newaxis]
    return np.where((table >= 0) & (table < setting.docs), table, own)


def assert_judges_results(found: Any, setting: Setting, arguments: Arguments) -> None:
    """Values and gradients against the judge's, NaN where that must be."""
    assert not isinstance(found, Refused), f"refused: {found.error}"
    expected, meets_nan, holds_nan = judged(setting, arguments)
    is_wrong = meets_nan.any() or not _is_finite(arguments.get("sample_weight"))
    if is_wrong or holds_nan.any():
        _assert_nan_where_it_is_used(found, expected, meets_nan, holds_nan)
        assert not (is_wrong and np.isfinite(found["loss"]).all()), (
            "a plausible loss, of NaN"
        )
        return
    complete = _with_what_cannot_be_asked(found, setting, expected)
    of_values, of_gradients = _slack(arguments)
    assert_values_close(complete, expected, setting.precision, of_values)
    assert_gradients_close(complete, expected, setting.precision, of_gradients)


def _is_finite(values: Any) -> bool:
    return values is None or bool(np.isfinite(np.asarray(values, np.float64)).all())


def _slack(arguments: Arguments) -> tuple[float, float]:
    """Of values and of gradients: how many digits fewer a logit has behind the point."""
    scale = float(arguments["scale"]) / float(arguments["temperature"])
    margin = abs(float(arguments.get("margin", 0.0)))
    log_q = arguments.get("doc_log_q")
    log_q = np.zeros(0) if log_q is None else log_q
    largest = max(scale * (1 + margin), oracle.largest(log_q[np.isfinite(log_q)]))
    return max(1.0, scale / 20), max(1.0, largest / 20)


def _assert_nan_where_it_is_used(
    found: dict[str, Array], expected: oracle.Result, meets: Array, holds: Array
) -> None:
    for name, is_nan in (("row_loss", meets), ("positive_cosine", holds)):
        wanted = np.where(is_nan, np.nan, getattr(expected, name))
        np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(found["num_kept"], expected.num_kept)


def _with_what_cannot_be_asked(
    found: dict[str, Array], setting: Setting, expected: oracle.Result
) -> dict[str, Array]:
    """The judge's own for a gradient by a list, and for statistics that were declined."""
    like = np.zeros(0, setting.compute_dtype)
    needed = ("query", "doc", "scale", "temperature")
    gaps = rounded_gradients(expected, {f"{name}_gradient": like for name in needed})
    gaps |= {name: getattr(expected, name) for name in ("row_loss", "positive_cosine")}
    is_above = expected.logits > expected.positive_logit[:, None]
    gaps |= {"num_kept": expected.num_kept, "positive_rank": is_above.sum(axis=1)}
    return {**gaps, **found}
