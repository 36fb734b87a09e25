"""The costs of a training step on tiny sizes: each kind of row, the CSV, and the ratios."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import report, step_cost
from benchmarks.gpu.gpu_model import Size
from benchmarks.problem import random_problem
from benchmarks.rounds import Times
from benchmarks.step_cost import Comparison, Target
from tests.benchmarks.rivals import import_packages

FIGURES = ["row", "sizes", "ratio", "q25", "q75", "rounds", "target", "reached"]
SIZE = Size(256, 8, 32)


def tiny() -> list[Comparison]:
    """A row of each kind, the last of which --quick leaves out."""
    return [
        step_cost.shuffle_to_reading(256, 8),
        step_cost.shuffle_per_row(260, 256, 4),
        step_cost.seed_to_indices(Size(32, 8, 16, more_docs=568)),
        *step_cost.all_to_softmaxes(64),
        *step_cost.smallest_steps(8),
        step_cost.long(step_cost.ring_to_shuffle(SIZE, 2.5)),
    ]


def run(folder: Path, *options: str) -> pd.DataFrame:
    """The CSV of a run of two rounds."""
    output = folder / "new" / "step_cost.csv"
    step_cost.main(["--rounds", "2", *options, "--output", str(output)])
    return pd.read_csv(output)


def made_up(**times: list[float]) -> dict[str, Times]:
    return {way: np.array(rounds) for way, rounds in times.items()}


def test_each_kind_of_row_is_measured_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(step_cost, "comparisons", tiny)
    results = run(tmp_path)
    assert list(results.columns) == [*FIGURES, *report.MACHINE]
    assert list(results["row"]) == [comparison.name for comparison in tiny()]
    assert np.isfinite(results["ratio"]).all()
    assert (results["q25"][1:] > 0).all()  # the first is a small difference of times
    assert (results["q25"] <= results["ratio"]).all()
    assert (results["ratio"] <= results["q75"]).all()
    assert (results["rounds"] == 2).all()
    assert set(results["reached"]) <= {"yes", "no"}
    printed = capsys.readouterr().out
    assert all(name in printed for name in results["row"])


def test_a_row_names_the_version_of_the_package_that_it_compares_with() -> None:
    import_packages("jax-in-batch")
    *_, row = step_cost.all_to_softmaxes(16)
    assert "JAX's" in row.name
    assert step_cost.measure(row, 1)["jax"] == metadata.version("jax")


def test_a_quick_run_leaves_out_what_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [step_cost.shuffle_per_row(20, 16, 4), tiny()[-1]]
    monkeypatch.setattr(step_cost, "comparisons", lambda: few)
    assert list(run(tmp_path, "--quick")["row"]) == [few[0].name]


def test_the_usual_rows_have_the_largest_batches_and_the_quick_ones_have_not() -> None:
    usual = step_cost.comparisons()
    quick = [row.sizes for row in usual if not row.is_long]
    large = [row.sizes for row in usual if row.is_long]
    assert {"65536x50x128", "70000 to 65536x20x128", "8192x8191x128"} == set(large)
    assert {"4096x20x128", "8192x50x128", "512x50x64 of 66048"} < set(quick)


def test_a_seed_and_its_draws_given_are_the_same_step() -> None:
    steps = step_cost.seed_to_indices(Size(32, 8, 16, more_docs=568)).make_steps()
    seed, given = (step.outputs(step.run()) for step in steps.values())
    assert [part.shape for part in seed] == [(), (32, 16), (600, 16)]
    for one, other in zip(seed, given, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_an_eager_step_computes_what_a_traced_one_does() -> None:
    size, ways = Size(16, 3, 8), ("in-batch", "fused-all")
    eager, traced = step_cost.eager_of(size, ways), step_cost.training_of(size, ways)
    for way in ways:
        steps = (eager[way], traced[way])
        one, other = (step.outputs(step.run()) for step in steps)
        for part, same in zip(one, other, strict=True):
            np.testing.assert_allclose(part, same, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("written", [True, False])
def test_zeros_are_written_in_each_call_or_once(written: bool) -> None:
    step = step_cost.zeros(random_problem(Size(3, 2, 4)), written)
    calls = [step.run() for _ in range(2)]
    once, again = ([np.asarray(memoryview(part)) for part in call] for call in calls)
    assert [part.shape for part in once] == [(), (3, 4), (3, 4)]
    assert not any(part.any() for part in once)
    assert all(map(np.shares_memory, once, again)) != written


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_rows_start_at_a_cache_line(rows: int) -> None:
    matrix = np.arange(rows * 5, dtype=np.float32).reshape(rows, 5)
    copy = step_cost.from_a_cache_line(matrix)
    assert copy.ctypes.data % 64 == 0
    assert copy.flags.c_contiguous
    np.testing.assert_array_equal(copy, matrix)


def test_only_what_a_step_takes_above_zeros_counts() -> None:
    times = made_up(step=[10, 8, 30], zeros=[2, 2, 10], reading=[4, 3, 10])
    np.testing.assert_allclose(step_cost.above_zeros(times), [2, 2, 2])


def test_a_quotient_is_of_the_same_round() -> None:
    times = made_up(seed=[6, 10, np.nan], given=[2, 5, 1])
    np.testing.assert_allclose(step_cost.quotient("seed", "given")(times), [3, 2, np.nan])


def test_times_per_row_are_compared() -> None:
    times = made_up(step=[110, 220], other=[50, 200])
    np.testing.assert_allclose(step_cost.per_row(110, 100)(times), [2, 1])


def test_a_way_is_compared_with_the_fastest_of_the_others() -> None:
    times = made_up(ours=[2, 2, 4], plain=[9, 9, 9], compiled=[4, 6, 40])
    np.testing.assert_allclose(step_cost.times_faster("ours")(times), [2, 3, 10])


def test_the_figures_are_of_the_rounds_in_which_every_way_took_part() -> None:
    found = step_cost.figures(np.array([5, 1, np.nan, 3, 2, 4]))
    assert found == {"ratio": 3.0, "q25": 2.0, "q75": 4.0, "rounds": 5}


@pytest.mark.parametrize(
    ("target", "reached", "missed", "text"),
    [
        (Target(1.6), 1.6, 1.61, "at most 1.6"),
        (Target(5.0, is_lowest=True), 5.0, 4.99, "at least 5"),
    ],
)
def test_a_target_is_a_bound(
    target: Target, reached: float, missed: float, text: str
) -> None:
    assert target.is_reached(reached)
    assert not target.is_reached(missed)
    assert str(target) == text
