"""Random calls of the public function: the oracle's numbers, or an error by name.

What might crash runs in processes of its own, see fuzz_core.py and fuzz_ops.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from negative_cosine import fused_negative_cosine_loss

from tests.loss.strategies import (
    PROFILES,
    Call,
    WrongCall,
    calls,
    fuzz,
    valid_arguments,
    wrong_calls,
)
from tests.support.cases import assert_gradients_close, assert_values_close, run_oracle
from tests.support.checkout import ROOT
from tests.support.tensorflow_runs import run_loss

IMPLEMENTATIONS = pytest.mark.parametrize("implementation", ["native", "reference"])


def check_against_the_oracle(call: Call) -> None:
    expected = run_oracle(call.batch, call.source, call.options)
    arguments = (call.batch, call.source, call.options)
    reference = run_loss(*arguments, "reference")
    native = run_loss(*arguments, "native", call.mode)
    dtype = call.batch.dtype
    for results in (reference, native):
        assert_values_close(results, expected, dtype, call.slack)
    assert_gradients_close(native, expected, dtype, call.slack)


@PROFILES
def test_a_valid_call_gives_the_numbers_of_the_oracle(profile: str) -> None:
    fuzz(profile, check_against_the_oracle, calls(), 60)


@PROFILES
def test_a_valid_call_gives_them_in_graphs_and_compiled_too(profile: str) -> None:
    fuzz(profile, check_against_the_oracle, calls(6, ("graph", "xla")), 12)


SPECIAL = [float("nan"), float("inf"), float("-inf"), 1e4, -1e4, 0.0]
# The others are refused: test_left_out_rows.py.
SPECIAL_LOG_Q = [value for value in SPECIAL if value > float("-inf")]


@st.composite
def calls_with_special_numbers(draw: st.DrawFn) -> Call:
    """NaN, infinity and more than is useful, in one element of an input or a few."""
    call = draw(calls(8).filter(lambda call: call.batch.rows > 0))
    batch = call.batch
    inputs = {
        "query": batch.query,
        "doc": batch.doc,
        "doc_log_q": np.zeros(batch.docs, batch.real),
        "sample_weight": np.ones(batch.rows, batch.real),
    }
    for name in draw(st.sets(st.sampled_from(sorted(inputs)), min_size=1)):
        rows = inputs[name]
        special = SPECIAL_LOG_Q if name == "doc_log_q" else SPECIAL
        rows[draw(st.integers(0, len(rows) - 1))] = draw(st.sampled_from(special))
        if name in ("doc_log_q", "sample_weight"):
            call.options[name] = rows
    call.options["reduction"] = "none"
    return call


def check_special_numbers(call: Call) -> None:
    native, reference = (
        run_loss(call.batch, call.source, call.options, implementation)
        for implementation in ("native", "reference")
    )
    for name in ("loss", "row_loss", "positive_cosine", "num_kept"):
        found, expected = native[name], reference[name]
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected), name)
        np.testing.assert_allclose(
            found, expected, rtol=1e-3 * call.slack, atol=1e-4, err_msg=name
        )


@PROFILES
def test_nan_and_infinity_reach_the_rows_that_the_reference_says(profile: str) -> None:
    fuzz(profile, check_special_numbers, calls_with_special_numbers(), 60)


def call_in_graph(arguments: dict[str, Any]) -> Any:
    """Calls the loss in a graph that knows the ranks of its arrays and no size."""
    arrays = {
        name: tf.constant(value)
        for name, value in arguments.items()
        if isinstance(value, np.ndarray) and value.dtype.kind in "biufc"
        if value.dtype != np.longdouble and name not in NOT_FROM_A_GRAPH
    }
    signature = {
        name: tf.TensorSpec([None] * array.shape.rank, array.dtype)
        for name, array in arrays.items()
    }
    return tf.function(
        lambda arrays: fused_negative_cosine_loss(**{**arguments, **arrays}),
        input_signature=[signature],
        autograph=False,
    )(arrays)


# Python values; a scalar scale is right, as a tensor; and the reference does not name a
# seed whose length only the graph knows.
NOT_FROM_A_GRAPH = {
    "seed",
    "num_negatives",
    "sampler",
    "mask_self",
    "return_stats",
    "margin",
    "negative_weight",
}


def verdict(call: WrongCall, implementation: str) -> Exception | None:
    """What the call raises, if it is one of docs/semantics.md, "Errors"."""
    arguments = {**call.arguments(), "implementation": implementation}
    try:
        call_in_graph(arguments) if call.in_graph else fused_negative_cosine_loss(
            **arguments
        )
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        return error
    return None


def check_wrong_call(call: WrongCall) -> None:
    native, reference = (verdict(call, name) for name in ("native", "reference"))
    assert type(native) is type(reference), (native, reference)
    for error in (native, reference):
        if error is None:
            assert len(call.wrong) == 2, "a single wrong argument was accepted"
        else:
            assert any(name in str(error) for name in call.wrong), error


@PROFILES
def test_a_wrong_call_is_refused_by_name_and_alike_by_both(profile: str) -> None:
    fuzz(profile, check_wrong_call, wrong_calls(), 200)


# --- What was found so. ----------------------------------------------------------------


@IMPLEMENTATIONS
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": None}, "query must be a tensor or .*got NoneType"),
        ({"doc": tf.ragged.constant([[1.0], [2.0, 3.0]])}, "doc must be a .*got RaggedT"),
        ({"doc_ids": [2**64] * 5}, "doc_ids must be a tensor.*got list.*out-of-range"),
        ({"scale": 10**400}, "scale must be a finite number above 0, got 1000"),
        ({"margin": -(10**400)}, "margin must be a finite number, got -1000"),
        ({"margin": 1e39}, r"margin must be finite in float32, got 1e\+39"),
        ({"sampler": tf.constant("shuffle")}, "sampler must be one of"),
        ({"reduction": np.array(["mean", "sum"])}, "reduction must be one of"),
        ({"return_stats": tf.constant(True)}, "return_stats must be True or False"),
        ({"seed": np.array([2**63, 1], np.uint64)}, "seed must be two.*got uint64"),
        ({"seed": np.array([1.5, 2.5])}, "seed must be two integers.*got float64"),
        (
            {"doc_log_q": np.zeros(5, np.complex64)},
            "doc_log_q must be floating-point, got complex64",
        ),
        (
            {"query": tf.zeros([0, 2**31]), "doc": tf.zeros([0, 2**31])},
            r"query must have from 1 to 2\*\*31 - 1 columns",
        ),
    ],
)
def test_a_wrong_argument_is_named_that_once_was_not(
    change: dict[str, Any], message: str, implementation: str
) -> None:
    arguments = {**valid_arguments(), "implementation": implementation, **change}
    with pytest.raises(ValueError, match=message):
        fused_negative_cosine_loss(**arguments)


@IMPLEMENTATIONS
def test_a_seed_of_more_than_64_bits_is_refused_in_a_graph_too(implementation: str) -> None:
    arguments = {**valid_arguments(), "implementation": implementation, "seed": (2**63, 1)}
    with pytest.raises(ValueError, match="seed must be two integers of at most 64 bits"):
        call_in_graph(arguments)


@IMPLEMENTATIONS
@pytest.mark.parametrize("sampler", ["shuffle", "ring"])
def test_an_empty_batch_may_ask_for_any_number_of_candidates(
    sampler: str, implementation: str
) -> None:
    loss = fused_negative_cosine_loss(
        tf.zeros([0, 4]),
        tf.ones([3, 4]),
        num_negatives=2**31 - 1,
        sampler=sampler,
        implementation=implementation,
    )
    assert loss == 0.0


# --- In processes of their own. --------------------------------------------------------

FOLDER = Path(__file__).parent


def run_pytest(file: Path, profile: str = "usual") -> subprocess.CompletedProcess[str]:
    """Runs a file of tests in a new process, which may crash or hang."""
    command = [sys.executable, "-X", "faulthandler", "-m", "pytest", "-q", "-x"]
    marker = "nightly" if profile == "nightly" else "not nightly"
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "-m", marker, str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=3600 if profile == "nightly" else 900,
        check=False,
    )


@PROFILES
@pytest.mark.parametrize("file", ["fuzz_core.py", "fuzz_ops.py"])
def test_no_input_crashes_the_process_that_it_is_given_to(file: str, profile: str) -> None:
    result = run_pytest(FOLDER / file, profile)
    assert result.returncode == 0, result.stdout[-8000:] + result.stderr[-4000:]
    assert " passed" in result.stdout


def test_a_crash_in_that_process_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "fuzz_planted.py"
    file.write_text("import ctypes\ndef test_planted():\n    ctypes.string_at(0)\n")
    result = run_pytest(file)
    assert result.returncode < 0
    assert "Segmentation fault" in result.stderr
