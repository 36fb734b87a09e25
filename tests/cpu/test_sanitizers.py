"""The core under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer.

``sanitizers/driver.cc`` runs the passes on arrays that are exactly as long as they must be,
in many ways whose bits have to agree. It also commits faults when it is told
to: a sanitizer that does not find them would find nothing in the core either.
"""

from __future__ import annotations

import re
import sys

import pytest

from tests.cpu.sanitized import SANITIZERS, instruction_sets, run_driver

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the sanitizers are built on Linux alone"
)

# By what draws the candidates: ring runs the tiles' kernels, the others those of rows.
ARRAYS = {
    "shuffle": (
        *("query", "doc", "logit_scale", "seed", "doc_ids", "query_ids", "doc_log_q"),
        *("sample_weight", "loss_gradient"),
        *("loss", "row_loss", "positive_cosine", "saved_rows", "doc_inverse_norm"),
        *("row_scale_gradient", "query_direction", "num_kept", "positive_rank"),
        *("query_gradient", "doc_gradient", "logit_scale_gradient"),
        *("sample_weight_gradient", "forward_scratch", "gradient_scratch"),
    ),
    "ring": ("query", "doc", "row_loss", "query_direction", "num_kept", "doc_gradient"),
    "indices": ("negative_indices", "gradient_scratch"),
}


@pytest.fixture(params=["portable", "avx2", "avx512"])
def instruction_set(request: pytest.FixtureRequest) -> str:
    """Each instruction set that the core has kernels for and this machine runs."""
    if request.param not in instruction_sets():
        pytest.skip(f"this processor has no {request.param}")
    return str(request.param)


@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_the_core_is_clean_in_every_way_to_run_it(
    sanitizer: str, instruction_set: str
) -> None:
    report = run_driver(sanitizer, instruction_set=instruction_set)
    assert report.is_clean, report
    assert re.fullmatch(
        rf"{instruction_set}: \d{{3,}} cases, checksum [0-9a-f]{{16}}\n"
        r"alike everywhere: \d{3,} cases, checksum [0-9a-f]{16}\n",
        report.printed,
    )


def test_no_result_depends_on_what_fresh_memory_holds() -> None:
    first = run_driver("address", instruction_set=instruction_sets()[-1])
    second = run_driver("address", instruction_set=instruction_sets()[-1], fill=0xFF)
    assert first.is_clean, first
    assert first == second


def test_a_planted_read_of_what_was_never_written_changes_the_result() -> None:
    first, second = (
        run_driver("address", "--plant", "uninitialised", fill=fill) for fill in (0, 0xFF)
    )
    assert (first.printed, second.printed) == ("0\n", "255\n")


@pytest.mark.parametrize(
    ("sanitizer", "fault", "words"),
    [
        ("address", "read-behind", "AddressSanitizer: heap-buffer-overflow"),
        ("address", "use-after-free", "AddressSanitizer: heap-use-after-free"),
        ("address", "overflow", "runtime error: signed integer overflow"),
        ("address", "misaligned", "runtime error: load of misaligned address"),
        ("thread", "race", "ThreadSanitizer: data race"),
    ],
)
def test_a_planted_fault_is_found_and_named(sanitizer: str, fault: str, words: str) -> None:
    report = run_driver(sanitizer, "--plant", fault)
    assert report.exit_code not in (0, 2)  # 2: the driver's own errors
    assert words in report.reported
    assert "planted_faults.cc" in report.reported


def test_a_planted_leak_is_found_and_named() -> None:
    report = run_driver("address", "--plant", "lose-memory", leaks=True)
    if "LeakSanitizer does not work under ptrace" in report.reported:
        pytest.skip("this machine does not let LeakSanitizer stop threads (ptrace)")
    assert "LeakSanitizer: detected memory leaks" in report.reported
    assert "planted_faults.cc" in report.reported


@pytest.mark.parametrize(
    ("source", "array"),
    [(source, array) for source, arrays in ARRAYS.items() for array in arrays],
)
def test_an_array_that_lacks_one_element_is_found_in_the_core(
    source: str, array: str
) -> None:
    report = run_driver("address", "--short", array, source)
    assert "AddressSanitizer: heap-buffer-overflow" in report.reported
    ours = re.findall("^ +#.*(/csrc/|/tests/)", report.reported, re.MULTILINE)
    assert ours[0] == "/csrc/", report.reported


def test_two_calls_that_write_the_same_outputs_are_a_race_found_in_the_kernels(
    instruction_set: str,
) -> None:
    report = run_driver(
        "thread", "--plant", "shared-outputs", instruction_set=instruction_set
    )
    assert "ThreadSanitizer: data race" in report.reported
    assert "/csrc/cpu/kernels.cc" in report.reported


@pytest.mark.parametrize("arguments", [("--plant", "x"), ("--short", "x", "ring"), ("x",)])
def test_the_driver_refuses_what_it_does_not_know(arguments: tuple[str, ...]) -> None:
    report = run_driver("thread", *arguments)
    assert report.exit_code == 2
    assert report.reported
