"""The evidence of the op in TensorFlow on a GPU, taken through on the CPU."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss

from benchmarks import checks, gpu_tensorflow, machine, report
from benchmarks.measurements import make_row
from benchmarks.steps import FAILED, LEFT_OUT, PASSED, Outcome, Part, Step, run_steps
from benchmarks.tensorflow_evidence import (
    facts,
    fit,
    gpu_tests,
    placement,
    plan,
    probes,
    times,
)
from benchmarks.tensorflow_evidence.child import require_close, require_device
from benchmarks.tensorflow_evidence.plan import Run
from benchmarks.tensorflow_evidence.timings import ALL, NEED_MATMUL, SMALL, TIMINGS, Timing
from tests.support.checkout import ROOT

DEVICE = "CPU:1"  # tests/conftest.py makes two of the CPU


# What takes long to make is made by one process.
pytestmark = pytest.mark.xdist_group("TensorFlow evidence")


@pytest.fixture(scope="module")
def dry_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the whole command prints without a GPU, and the folder of its files."""
    folder = tmp_path_factory.mktemp("evidence") / "new"
    command = [sys.executable, "-m", "benchmarks.gpu_tensorflow", "--dry-run"]
    options = ["--output", str(folder), "--commit", "abc123"]
    result = subprocess.run([*command, *options], cwd=ROOT, capture_output=True, text=True)
    log = folder / "gpu_tensorflow.log"
    assert result.returncode == 0, result.stdout + result.stderr + log.read_text()
    return result.stdout, folder


def steps_of(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "gpu_tensorflow.json").read_text())
    return {step["step"]: step for step in found["steps"]}


def test_a_dry_run_takes_every_step_through_and_writes_every_file(
    dry_run: tuple[str, Path],
) -> None:
    printed, folder = dry_run
    names = {file.name for file in folder.iterdir()}
    assert names == {f"gpu_tensorflow.{kind}" for kind in ("json", "jsonl", "csv", "log")}
    steps = steps_of(folder)
    for name in ("report", "report: xla", "tests: collected", "fit, XLA", "placement"):
        assert name in steps
        assert name in printed
    assert {step["outcome"] for step in steps.values()} == {PASSED, LEFT_OUT}


def test_every_row_of_times_says_what_it_was_made_on(dry_run: tuple[str, Path]) -> None:
    rows = pd.read_csv(dry_run[1] / "gpu_tensorflow.csv")
    assert set(rows[rows["mode"] == "train"]["impl"]) == set(ALL)
    assert (rows["median_ms"] > 0).all()
    assert (rows["commit"] == "abc123").all()
    assert (rows["tensorflow"] == tf.__version__).all()
    assert rows[["device", "began"]].notna().all(axis=None)
    assert rows["dry_run"].all()


def test_what_a_dry_run_leaves_out_is_named_with_the_reason(
    dry_run: tuple[str, Path],
) -> None:
    printed, folder = dry_run
    memory = next(
        p for p in steps_of(folder)["placement"]["parts"] if p["name"] == "memory"
    )
    assert memory["outcome"] == LEFT_OUT
    assert f"left out: placement: memory: {memory['reason']}" in printed


def test_every_test_marked_gpu_is_in_a_group_and_exists(dry_run: tuple[str, Path]) -> None:
    marked = {
        (file.name, name)
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(
            r"^@pytest\.mark\.gpu\n(?:@.*\n)*def (\w+)", file.read_text(), re.MULTILINE
        )
    }
    assert len(marked) > 8
    collected = {
        tuple(part["name"].split("[")[0].split("::"))
        for part in steps_of(dry_run[1])["tests: collected"]["parts"]
    }
    assert collected == marked


def test_the_times_of_a_known_gpu_stand_beside_the_prediction(
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = {
        **dict.fromkeys(("median_ms", "q20_ms", "q80_ms", "ratio"), 1.0),
        "ratio_to": "fused",
    }
    parts = [
        Part("times", PASSED, "", {"rows": [make_row(case, timing.size, task, figures)]})
        for case, timing in TIMINGS.items()
        for task in timing.tasks()
    ]
    on_gpu = {"device": "NVIDIA H100 80GB HBM3", "driver": "580"}
    rows = gpu_tensorflow.rows_of_times([Outcome("times", PASSED, parts=parts)], on_gpu)
    predicted = set(rows[rows["predicted_ms"] > 0]["impl"])
    assert predicted == {"fused", "fused-ring", "fused-all"}
    report.show(rows)
    assert "predicted, ms" in capsys.readouterr().out


def test_a_group_leaves_out_only_tests_that_another_has() -> None:
    groups = (*gpu_tests.SHORT, *gpu_tests.LONG)
    elsewhere = {test for group in groups for test in group.tests}
    for group in groups:
        assert set(group.without) <= elsewhere - set(group.tests)


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


ABORT = python("import os; os.abort()")
HANG = python("import time; time.sleep(99)")


def just(step: Step, run: Run) -> Iterator[Step]:
    yield step


def run_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **commands: list[str]
) -> tuple[int, dict[str, Any]]:
    """The exit status and the steps of the command, with other programs for its steps."""
    for variable in ("TF_CPP_MIN_LOG_LEVEL", "TQDM_DISABLE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(variable, "")  # so that what the command sets is undone
    for name in plan.STEPS:
        command = commands.get(name, python(""))
        step = Step(name, command, 1.5 if command == HANG else 60)
        monkeypatch.setitem(plan.STEPS, name, functools.partial(just, step))
    with pytest.raises(SystemExit) as end:
        gpu_tensorflow.main(["--output", str(folder), "--dry-run", "--commit", "none"])
    return int(str(end.value.code)), steps_of(folder)


@pytest.mark.parametrize("name", plan.STEPS)
def test_whichever_step_crashes_the_others_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, steps = run_command(tmp_path, monkeypatch, **{name: ABORT})
    assert status == 1
    assert steps.pop(name)["reason"] == "ended by signal 6, Aborted"
    assert len(steps) == len(plan.STEPS) - 1
    assert {step["outcome"] for step in steps.values()} == {PASSED}


@pytest.mark.parametrize(
    ("command", "status", "outcome", "reason"),
    [
        (HANG, 1, FAILED, "took longer than 1.5 s"),
        (python("import sys; sys.exit('no room')"), 1, FAILED, "exit status 1: no room"),
        (
            python(
                "import os; print('!', file=open(os.environ['BENCHMARK_STEP_PARTS'], 'a'))"
            ),
            1,
            FAILED,
            "1 of 1 parts failed",
        ),
        (
            python(
                "from benchmarks.steps import part\n"
                "with part('loss'): assert 1 == 2, 'not the loss'"
            ),
            1,
            FAILED,
            "1 of 1 parts failed",
        ),
        (["no-such-tool"], 0, LEFT_OUT, "no-such-tool: No such file or directory"),
    ],
    ids=["hangs", "fails", "nonsense", "wrong result", "missing tool"],
)
def test_a_step_that_goes_wrong_is_named_passed_over_and_decides_the_exit_status(
    command: list[str],
    status: int,
    outcome: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, steps = run_command(tmp_path, monkeypatch, fit=command)
    assert (found, steps["fit"]["outcome"]) == (status, outcome)
    assert reason in steps["fit"]["reason"]
    assert steps["times"]["outcome"] == PASSED


def planned(only: list[str], *outcomes: Outcome) -> dict[str, Step]:
    """The steps of a run on a GPU by name, where some steps end so and others pass."""
    run = Run(dry_run=False)
    known = {outcome.step: outcome for outcome in outcomes}
    found = {}
    for step in plan.plan(run, only):
        found[step.name] = step
        run.outcomes.append(known.get(step.name, Outcome(step.name, PASSED)))
    return found


def test_where_matrix_products_do_not_run_what_needs_them_is_left_out_by_name() -> None:
    missing = Outcome("report: matmul", LEFT_OUT, "No blas support for stream")
    steps = planned(list(plan.STEPS), missing)
    assert "--without-matmul" in steps["fit"].command
    assert "--without-matmul" in steps["fit, XLA"].command
    assert set(NEED_MATMUL) < set(steps["times: large"].command)
    why = steps["tests: benchmark"].left_out
    assert why == "matmul does not run here: No blas support for stream"
    assert not steps["tests: one shape"].left_out


def test_where_all_libraries_are_there_nothing_is_left_out() -> None:
    steps = planned(list(plan.STEPS))
    assert not any(step.left_out for step in steps.values())
    words = {word for step in steps.values() for word in step.command}
    assert not [word for word in words if word.startswith(("--without", "--dry"))]
    assert next(iter(steps)) == "report"
    assert list(steps)[-1] == "tests: 2^31 elements"


def test_where_xla_does_not_run_compiled_fits_and_tests_are_left_out() -> None:
    steps = planned(list(plan.STEPS), Outcome("report: xla", FAILED, "ended by signal 6"))
    for name in ("fit, XLA", "tests: XLA"):
        assert steps[name].left_out == "xla does not run here: ended by signal 6"
    assert not steps["fit"].left_out
    assert "--without-xla" in steps["placement"].command
    assert {"fused-xla", "article-xla"} < set(steps["times: usual"].command)


def test_where_tensorflow_sees_no_gpu_nothing_is_tried() -> None:
    parts = [Part("devices", FAILED, "TensorFlow sees no GPU")]
    steps = planned(["report", "tests", "fit"], Outcome("report", FAILED, "", 1.0, parts))
    assert list(steps) == ["report", "tests", "fit"]
    assert steps["tests"].left_out == steps["fit"].left_out == plan.NO_GPU


def test_a_way_that_ends_its_process_is_left_out_and_its_problem_timed_again() -> None:
    parts = [
        Part("fused, train", PASSED, "", {"seconds": 1}),
        Part("article-xla, train", FAILED, "ended by signal 6"),
    ]
    crash = Outcome("times: usual", FAILED, "ended by signal 6", 3.0, parts)
    steps = planned(["times"], crash)
    again = steps["times: usual, again"]
    assert list(again.command[-2:]) == ["--without", "article-xla"]
    assert list(steps["times: wide"].command[-2:]) == ["--without", "article-xla"]
    assert len(steps) == len(TIMINGS) + 1


def test_a_problem_whose_rounds_hang_is_not_timed_again() -> None:
    parts = [Part("times", FAILED, "stopped: took longer than 90 s")]
    steps = planned(["times"], Outcome("times: usual", FAILED, "stopped", 90.0, parts))
    assert list(steps) == [f"times: {name}" for name in TIMINGS]


SUITE = """
import os, time
import pytest

def test_passes(): pass
def test_fails(): assert 1 == 2
def test_is_skipped(): pytest.skip("no tool")
def test_aborts(): os.abort()
def test_hangs(): time.sleep(99)
def test_runs_behind_them(): pass

@pytest.fixture
def broken(): raise OSError("no room")
def test_is_not_set_up(broken): pass
"""


@pytest.fixture
def suite(tmp_path: Path) -> str:
    file = tmp_path / "test_suite.py"
    file.write_text(SUITE)
    return str(file)


def log_of(suite: str) -> Path:
    return Path(suite.split("::")[0]).with_suffix(".log")


def run_suite(suite: str, *options: str) -> Outcome:
    step = Step("suite", gpu_tests.pytest_command([suite], *options), 60)
    (outcome,) = run_steps([step], 1, log_of(suite))
    return outcome


def test_each_test_of_a_group_has_its_outcome_though_workers_crash_and_hang(
    suite: str,
) -> None:
    outcome = run_suite(suite, "--numprocesses=1", "--longest-test=2")
    found = {part.name.split("::test_")[1]: part for part in outcome.parts}
    assert {name: part.outcome for name, part in found.items()} == {
        "passes": PASSED,
        "fails": FAILED,
        "is_skipped": LEFT_OUT,
        "aborts": FAILED,
        "hangs": FAILED,
        "runs_behind_them": PASSED,
        "is_not_set_up": FAILED,
    }
    assert "assert 1 == 2" in found["fails"].reason
    assert found["is_skipped"].reason == "Skipped: no tool"
    assert "crashed" in found["aborts"].reason
    assert "no room" in found["is_not_set_up"].reason
    assert "in test_hangs" in log_of(suite).read_text()


def test_without_workers_the_test_that_ends_the_process_is_named(suite: str) -> None:
    outcome = run_suite(suite)
    assert [part.outcome for part in outcome.parts] == [PASSED, FAILED, LEFT_OUT, FAILED]
    assert outcome.parts[-1].reason == "ended by signal 6, Aborted"


def test_a_test_that_does_not_exist_fails_its_group(suite: str) -> None:
    outcome = run_suite(f"{suite}::test_of_old")
    assert outcome.outcome == FAILED
    assert "test_of_old" in log_of(suite).read_text()


@pytest.fixture
def policy_kept() -> Iterator[None]:
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.usefixtures("policy_kept")
@pytest.mark.parametrize(
    ("style", "policy", "compiled"),
    [
        ("compute_loss", "mixed_bfloat16", False),
        ("compute_loss", "float32", True),
        ("layer", "mixed_float16", False),
        ("layer", "mixed_bfloat16", True),
    ],
)
def test_without_matrix_products_keras_trains_other_towers(
    style: str, policy: str, compiled: bool
) -> None:
    found = fit.fit(style, policy, compiled, matmul=False, device="cpu")
    assert len(found["losses"]) == fit.EPOCHS
    model = fit.STYLES[style](fit.ElementwiseTower, fit.numbers_of_rows())
    names = {type(layer).__name__ for layer in model.layers}
    assert "ElementwiseTower" in names
    assert "Dense" not in names


@pytest.mark.usefixtures("policy_kept")
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("first_loss_on_cpu", lambda model, pairs: 4.0, "the first step's loss is off"),
        ("FALL", 0.0, "the loss did not fall"),
    ],
)
def test_a_fit_that_is_not_what_it_should_be_fails(
    name: str, value: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, name, value)
    with pytest.raises(AssertionError, match=message):
        fit.fit("compute_loss", "float32", compiled=False, matmul=True, device="cpu")


def test_a_fit_on_another_device_fails() -> None:
    with pytest.raises(AssertionError, match=r"a weight is on .*CPU:0, not on gpu"):
        fit.fit("layer", "float32", compiled=False, matmul=True, device="gpu")


PLACEMENTS: dict[str, Callable[[], None]] = {
    "inputs on the host": functools.partial(placement.inputs_on_host, DEVICE, True),
    "two devices": functools.partial(placement.cpu_and_device, DEVICE),
    "batch size": functools.partial(placement.unknown_batch_size, DEVICE),
    "margin, eager": functools.partial(placement.margin, DEVICE, None),
    "margin, XLA": functools.partial(placement.margin, DEVICE, True),
}


@pytest.mark.parametrize("name", PLACEMENTS)
def test_a_wrong_result_is_found_wherever_the_op_is_placed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    PLACEMENTS[name]()
    right = placement.expected

    def wrong(*rows: Any, **options: Any) -> list[Any]:
        loss, query, doc = right(*rows, **options)
        return [loss, query, doc * (1 + 1e-4)]

    monkeypatch.setattr(placement, "expected", wrong)
    with pytest.raises(AssertionError, match="the gradient of doc is off by"):
        PLACEMENTS[name]()


def test_a_margin_that_has_no_effect_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_margin(*rows: Any, margin: float = 0.0, **options: Any) -> Any:
        return fused_negative_cosine_loss(*rows, **options)

    monkeypatch.setattr(placement, "fused_negative_cosine_loss", without_margin)
    with pytest.raises(AssertionError):
        placement.margin(DEVICE, None)


def test_an_op_on_another_device_than_asked_for_is_found() -> None:
    query, doc = placement.random_rows(37)
    results = placement.step_in("CPU:0", *placement.on(DEVICE, query, doc))
    with pytest.raises(AssertionError, match=r"a result is on .*CPU:0, not on CPU:1"):
        require_device("a result", results, DEVICE)


def test_steps_that_share_their_memory_are_found() -> None:
    last: list[Any] = []

    def step_with_the_results_of_the_step_before(*rows: tf.Tensor) -> Any:
        last.append(placement.step(*rows))
        return last[-2] if len(last) > 2 else last[-1]

    placement.steps_in_flight(DEVICE, placement.traced(DEVICE))
    with pytest.raises(AssertionError, match="in flight is not what it is alone"):
        placement.steps_in_flight(DEVICE, step_with_the_results_of_the_step_before)


def parts_printed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    """The parts that were reported where no run started them, each as it ended."""
    lines = capsys.readouterr().out.splitlines()
    parts = [json.loads(line) for line in lines if line.startswith("{")]
    return {part["name"]: part for part in parts}


def prepared(
    monkeypatch: pytest.MonkeyPatch, error: Exception, *without: str
) -> dict[tuple[str, bool], Any]:
    """Two ways prepared where both ways' checks raise."""

    def check(*arguments: Any) -> None:
        raise error

    monkeypatch.setattr(checks, "check", check)
    timing = Timing(SMALL, ("fused", "in-batch"))
    steps, _ = times.prepare(timing, "cpu", set(without))
    return dict(steps)


def test_a_way_without_its_library_is_left_out_and_the_op_has_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = tf.errors.InternalError(None, None, "No blas support for stream")
    assert prepared(monkeypatch, error) == {}
    parts = parts_printed(capsys)
    assert parts["in-batch, train"]["outcome"] == LEFT_OUT
    assert "No blas support for stream" in parts["in-batch, train"]["reason"]
    assert parts["fused, train"]["outcome"] == FAILED


def test_any_way_with_a_wrong_result_has_failed_and_is_not_timed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepared(monkeypatch, checks.WrongResultError("wrong")) == {}
    parts = parts_printed(capsys)
    assert {part["outcome"] for part in parts.values()} == {FAILED}


def test_a_way_that_is_not_wanted_is_not_tried(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared(monkeypatch, ValueError("tried"), "in-batch")
    part = parts_printed(capsys)["in-batch, train"]
    assert part["outcome"] == LEFT_OUT
    assert "--without" in part["reason"]


def test_without_the_gpu_a_program_ends_instead_of_taking_the_cpu() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.tensorflow_evidence.probes", "matmul"],
        cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.splitlines()[-1] == "TensorFlow sees no GPU"


def test_a_library_that_is_missing_leaves_a_probe_out_and_a_wrong_product_fails_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_convolution(*arguments: Any) -> tf.Tensor:
        raise tf.errors.InternalError(None, None, "DNN library is not found")

    monkeypatch.setattr(tf.nn, "conv2d", no_convolution)
    probes.cudnn(DEVICE)
    monkeypatch.setattr(tf.nn, "conv2d", lambda *arguments: tf.zeros([1, 6, 6, 1]))
    assert parts_printed(capsys)["convolution"]["outcome"] == LEFT_OUT
    probes.cudnn(DEVICE)
    assert parts_printed(capsys)["convolution"]["outcome"] == FAILED


@pytest.mark.parametrize("wrong", [np.nan, 1.1, np.inf])
def test_nan_is_no_close_result(wrong: float) -> None:
    require_close("it", [1.0, 2.0], [1.0, 2.0 + 1e-9], 1e-8)
    with pytest.raises(AssertionError, match="it is off by"):
        require_close("it", [wrong, 2.0], [1.0, 2.0], 1e-2)


def test_what_is_not_known_of_the_machine_is_said_in_the_facts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "commit", lambda: "")
    found = facts.facts(dry_run=False, commit_given=None)
    assert found["driver"].startswith("not known: nvidia-smi")
    assert found["device"] == found["commit"] == "not known"


def test_the_driver_and_the_gpu_are_those_of_the_first_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H100, 580.1'\necho 'another, 580.1'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert facts.gpu_and_driver() == {"device": "NVIDIA H100", "driver": "580.1"}
