"""The steps of benchmarks/gpu_evidence.py where something is missing, hangs or is wrong.

tests/kernels/test_dry_run.py runs the whole script.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks import gpu_evidence, machine, nvidia_smi, steps
from benchmarks.checks import WrongResultError
from benchmarks.evidence import (
    command,
    device,
    every_kernel,
    families,
    kernels,
    ncu,
    one_step,
    peers,
    sanitizer,
    suite,
    tables,
    tools,
    warpgroups,
)
from benchmarks.evidence import vectors as vectors_step
from benchmarks.gpu import tile_shape
from benchmarks.gpu.gpu_model import DEVICES, Size
from benchmarks.problem import Problem, Step
from benchmarks.steps import FAILED, LEFT_OUT, PASSED, LeftOutError, Outcome, Part
from benchmarks.ways import WAYS

Parts = Callable[[], dict[str, Part]]


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    """What the steps that ran in this process have reported."""
    file = tmp_path / "parts.jsonl"
    file.touch()
    monkeypatch.setenv(steps.PARTS_FILE, str(file))

    def read() -> dict[str, Part]:
        return {part.name: part for part in steps.read_parts(file, 0, PASSED, "")}

    return read


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The command line of a step in a dry run."""
    return command.words_for(tmp_path, "emulated", small=True)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that are found before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def program(path: Path, name: str, code: str) -> None:
    """A stand-in, in Python."""
    (path / name).write_text(f"#!{sys.executable}\nimport os, sys, time\n{code}\n")
    (path / name).chmod(0o755)


HANG = "time.sleep(60)"
CRASH = f"os.kill(os.getpid(), {int(signal.SIGSEGV)})"
NONSENSE = "print('lorem ipsum \\udcff'.encode(errors='replace'))"


# --- The card and its ceilings ----------------------------------------------------------

STATE = ", ".join(f"value of {name}" for name in device.STATE)


def test_the_card_is_described_by_its_driver(path: Path) -> None:
    asked = f"--query-gpu={','.join(device.STATE)} --format=csv,noheader"
    code = f"assert ' '.join(sys.argv[1:]) == {asked!r}; print({STATE!r})"
    program(path, "nvidia-smi", code)
    assert nvidia_smi.query(*device.STATE)["clocks.sm"] == "value of clocks.sm"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (None, "No such file or directory: 'nvidia-smi'"),
        ("sys.exit(9)", "exit status 9"),
        (CRASH, "died with"),
        (HANG, "timed out after 1"),
        (NONSENSE, "says nothing that can be read: "),
        ("print('1, 2, 3')", "says nothing that can be read: '1, 2, 3"),
    ],
    ids=["missing", "fails", "crashes", "hangs", "nonsense", "other columns"],
)
def test_a_driver_that_says_nothing_is_passed_over(
    code: str | None,
    reason: str,
    path: Path,
    parts: Parts,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nvidia_smi, "SECONDS", 1)
    if code is not None:
        program(path, "nvidia-smi", code)
    device.main(words)
    found = parts()
    assert found["card as found"].outcome == LEFT_OUT
    assert reason in found["card as found"].reason
    assert found["device"].outcome == PASSED


def test_without_pytorch_no_matrices_are_multiplied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(LeftOutError, match="PyTorch multiplies the matrices"):
        device.product_rate(8, 1)


def test_every_row_says_where_it_comes_from(path: Path) -> None:
    program(path, "nvidia-smi", "print('580.65.06')")
    facts = device.facts(command.load_core("emulated"))
    assert tuple(facts) == tables.FACTS
    assert facts["driver"] == "580.65.06"
    assert facts["device"] == "emulated device"


def test_a_copied_folder_knows_the_commit_that_it_was_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "commit.txt").write_text("1a2b3c4\n")
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    assert machine.commit() == "1a2b3c4"


# --- Other programs ---------------------------------------------------------------------


def test_at_its_limit_a_program_is_killed_with_what_it_started(
    path: Path, tmp_path: Path
) -> None:
    child = tmp_path / "child"
    code = f"""
import subprocess
process = subprocess.Popen(["sleep", "60"])
open({str(child)!r}, "w").write(str(process.pid))
print("waiting", flush=True)
process.wait()
"""
    program(path, "starter", code)
    with pytest.raises(TimeoutError, match="longer than 1 s; its last words: 'waiting"):
        tools.run_tool(["starter"], 1)
    state = Path(f"/proc/{child.read_text()}/stat")
    for _ in range(50):  # an orphan is a zombie until its new parent looks
        if not state.exists() or " Z " in state.read_text():
            return
        time.sleep(0.1)
    raise AssertionError("what it started still runs")


# --- compute-sanitizer ------------------------------------------------------------------

CLEAN = "print('========= ERROR SUMMARY: 0 errors')"


@pytest.mark.parametrize(
    ("code", "outcome", "reason"),
    [
        (None, LEFT_OUT, "compute-sanitizer is not on PATH: CUDA's toolkit has it"),
        (CLEAN, PASSED, ""),
        (
            "print('========= Error: Device not supported. Please refer to'); sys.exit(1)",
            LEFT_OUT,
            "skipped, because compute-sanitizer says: ========= Error: Device not",
        ),
        (
            "print('== Invalid __global__ read\\n== ERROR SUMMARY: 1 error'); sys.exit(9)",
            FAILED,
            "exit status 9: == Invalid __global__ read",
        ),
        (
            "print('== RACECHECK SUMMARY: 2 hazards displayed (0 errors, 2 warnings)')",
            FAILED,
            "RACECHECK SUMMARY: 2 hazards displayed (0 errors, 2 warnings)",
        ),
        (CRASH, FAILED, "exit status -11"),
        (NONSENSE, FAILED, "no summary, and so no result"),
        ("print('== SUMMARY: none')", FAILED, "a summary without a count"),
        (HANG, FAILED, "took longer than 1 s"),
    ],
    ids=[
        *("missing", "clean", "refuses", "finds", "warns", "crashes"),
        *("nonsense", "no count", "hangs"),
    ],
)
def test_the_sanitizers_verdict(
    code: str | None,
    outcome: str,
    reason: str,
    path: Path,
    parts: Parts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sanitizer, "SECONDS_OF_A_TOOL", 1)
    if code is not None:
        program(path, "compute-sanitizer", code)
    sanitizer.main(command.words_for(tmp_path, "device", small=False))
    found = parts()
    assert set(found) == set(sanitizer.TOOLS)
    for part in found.values():
        assert (part.outcome, reason in part.reason) == (outcome, True), part.reason


def test_the_sanitizer_says_how_much_it_watched() -> None:
    output = "50 of 136 runs\n========= ERROR SUMMARY: 0 errors"
    assert sanitizer.verdict(output, 0) == {
        "summary": "ERROR SUMMARY: 0 errors",
        "watched": "50 of 136 runs",
    }


def test_the_watched_program_ends_before_the_tool_around_it_is_stopped() -> None:
    words = sanitizer.command("compute-sanitizer", "racecheck", sanitizer.SECONDS_WATCHED)
    assert float(words[words.index("--seconds") + 1]) < sanitizer.SECONDS_OF_A_TOOL


def test_a_sanitizer_watches_every_family_of_kernels() -> None:
    calls = [*every_kernel.calls()]
    for name, values in {
        "dtype": {"float16", "bfloat16", "float32", "float64"},
        "source": {"shuffle", "ring", "all", "indices"},
        "allow_tf32": {False, True},
    }.items():
        assert {call[name] for call in calls} == values
    assert {call["normalize_over"] for call in calls if "normalize_over" in call} == {
        "batch"
    }
    # Few rows take flat tiles on a device.
    multiprocessors = DEVICES["H100"].multiprocessors
    for kind, rows in every_kernel.ROWS_OF_KINDS.items():
        tile = tile_shape.shape_for("bfloat16", 256, rows, multiprocessors)
        assert tile.kind == kind
        assert {call["dtype"] for call in calls if call.get("rows") == rows} == {
            "float16",
            "bfloat16",
            "float32",
        }


def test_the_calls_that_come_first_are_of_every_kind() -> None:
    calls = [*every_kernel.calls()]
    spread = every_kernel.spread(calls)
    assert sorted(map(str, spread)) == sorted(map(str, calls))
    first = spread[: len(calls) // every_kernel.STRIDE]
    assert {call["dtype"] for call in first} == {call["dtype"] for call in calls}
    assert {call["source"] for call in first} == {call["source"] for call in calls}


@pytest.mark.parametrize(("seconds", "count"), [("0.001", 1), ("100", 9)])
def test_the_watched_program_runs_the_calls_that_there_is_time_for(
    seconds: str,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    nine = [*every_kernel.calls()][:9]
    monkeypatch.setattr(every_kernel, "load_core", lambda: command.load_core("emulated"))
    monkeypatch.setattr(every_kernel, "calls", lambda: iter(nine))
    every_kernel.main(["--seconds", seconds])
    assert capsys.readouterr().out == f"{count} of 9 runs\n"


# --- The tests of the kernels -----------------------------------------------------------


def with_suite(monkeypatch: pytest.MonkeyPatch, folder: Path, tests: str) -> None:
    """One file of tests in place of the kernels'."""
    (folder / "test_planted.py").write_text(tests)
    (folder / "conftest.py").write_text(
        "def pytest_addoption(parser): parser.addoption('--core')"
    )
    (folder / "pytest.ini").write_text("[pytest]")
    monkeypatch.setattr(suite, "FOLDER", folder)
    monkeypatch.setattr(suite, "FILES", ("test_planted",))
    monkeypatch.setattr(suite, "SOME", "test")


@pytest.mark.parametrize(
    ("tests", "outcome", "reason"),
    [
        ("def test_right(): pass", PASSED, ""),
        ("def test_wrong(): assert 0", FAILED, "1 failed: test_planted.test_wrong"),
        (
            "import pytest\npytest.skip('no JAX here', allow_module_level=True)",
            LEFT_OUT,
            "no JAX here",
        ),
        ("", FAILED, "no test ran: pytest ended with status 5"),
        ("import os\ndef test_crash(): os.abort()", FAILED, "pytest ended with status -6"),
        ("import time\ndef test_hang(): time.sleep(60)", FAILED, "took longer than 6 s"),
        ("import no_such_module", FAILED, "1 failed"),
    ],
    ids=["right", "wrong", "skipped", "none", "crash", "hang", "no import"],
)
def test_the_suites_verdict(
    tests: str,
    outcome: str,
    reason: str,
    tmp_path: Path,
    parts: Parts,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_suite(monkeypatch, tmp_path, tests)
    monkeypatch.setattr(suite, "SECONDS_OF_A_FILE", 6)
    suite.main(words)
    part = parts()["test_planted"]
    assert (part.outcome, reason in part.reason) == (outcome, True), part.reason


def test_on_a_device_the_tests_run_on_all_processors() -> None:
    words = suite.pytest_command("test_rows", "device", False, Path("report.xml"))
    assert words[words.index("--core") + 1] == "device"
    assert int(words[words.index("-n") + 1]) == min(suite.MOST_WORKERS, os.cpu_count() or 1)
    assert "-k" not in words


# --- The instructions -------------------------------------------------------------------


def test_a_device_without_the_module_of_instructions_is_passed_over(
    parts: Parts, tmp_path: Path
) -> None:
    vectors_step.main(command.words_for(tmp_path, "device", small=False))
    found = parts()["recorded"]
    assert found.outcome == LEFT_OUT
    assert found.reason == "No module named '_vectors': make bare builds it"


# --- The kernels' times -----------------------------------------------------------------


def test_sizes_are_not_powers_of_two_alone() -> None:
    runs = kernels.unique_runs()
    assert len(runs) == len(set(runs))
    for name, least, most in (
        ("batch_size", 512, 65536),
        ("num_negatives", 4, 1000),
        ("dim", 32, 1024),
    ):
        values = {getattr(run, name) for run in runs if run.source != "all"}
        assert {least, most} <= values
        assert [value for value in values if value & (value - 1)]


def test_every_sampler_dtype_and_setting_is_timed() -> None:
    runs = kernels.unique_runs()
    assert {run.columns["dtype"] for run in runs} == {*kernels.DTYPES, "tf32"}
    assert {run.source for run in runs} == {*kernels.SOURCES}
    assert {run.statistics for run in runs} == {True, False}


def test_the_kernels_of_warpgroups_are_asked_for_and_timed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, list[families.Run]]] = []
    monkeypatch.setenv(warpgroups.SWITCH, "0")
    monkeypatch.setattr(
        warpgroups, "time_runs", lambda _, file, runs: asked.append((file, runs))
    )
    warpgroups.main(command.words_for(tmp_path, "device", small=False))
    assert os.environ[warpgroups.SWITCH] == "1"
    ((file, runs),) = asked
    assert file == "gpu_warpgroups.csv"
    # As csrc/cuda/warpgroups/kernels.cu has it.
    assert all(run.batch_size >= 256 and run.num_negatives >= 256 for run in runs)
    assert {run.dim for run in runs} <= set(range(32, 257, 8))
    assert suite.ENVIRONMENT_OF_FILE["test_warpgroups"] == {warpgroups.SWITCH: "1"}


def test_no_measurement_depends_on_a_model() -> None:
    names = ["benchmarks.gpu_evidence", "benchmarks.evidence.every_kernel"]
    names += [f"benchmarks.evidence.{step}" for step in gpu_evidence.LIMITS]
    models = {f"benchmarks.gpu.{name}" for name in ("gpu_samplers", "kernel_time")}
    models |= {f"benchmarks.gpu.{name}" for name in ("row_model", "tile_model")}
    code = f"import sys, {', '.join(names)}; assert not {models} & {{*sys.modules}}"
    subprocess.run([sys.executable, "-c", code], cwd=steps.ROOT, check=True)


class FakeStep:
    """A step of the core that takes so many milliseconds, and gives this loss."""

    bytes_beside_inputs = 1000

    def __init__(self, milliseconds: float, losses: Sequence[float]) -> None:
        self.time, self.losses = milliseconds, iter(losses)
        self.asked: list[dict[str, Any]] = []

    def spoil_results(self) -> None:
        pass

    def launch(self, count: int, how: str) -> None:
        assert count == 1

    def results(self) -> dict[str, Any]:
        return {"loss": np.float32(next(self.losses))}

    def milliseconds(self, **asked: Any) -> list[float]:
        self.asked.append(asked)
        return [self.time] * asked["samples"]


@pytest.mark.parametrize("losses", [(np.nan, np.nan), (1.0, 1.5)], ids=["nan", "differ"])
def test_what_is_no_loss_is_not_timed(losses: Sequence[float]) -> None:
    with pytest.raises(AssertionError, match=r"the loss is nan|launches differ"):
        kernels.check(FakeStep(1.0, losses))


def test_quick_steps_are_timed_together_and_slow_ones_in_fewer_ways() -> None:
    quick, slow = FakeStep(0.02, ()), FakeStep(100.0, ())
    variants = [*kernels.time_variants(quick, flush_bytes=64)]
    assert [(each["launch"], each["cache"], each["steps"]) for each in variants] == [
        ("graph", "warm", 16),
        ("graph", "flushed", 1),
        ("plain", "warm", 16),
        ("plain", "flushed", 1),
    ]
    assert [asked.get("flush_bytes") for asked in quick.asked[3:]] == [0, 64, 0, 64]
    (only,) = kernels.time_variants(slow, flush_bytes=64)
    assert (only["launch"], only["cache"], only["samples"]) == ("graph", "warm", 30)
    assert only["median_us"] == 1e5


def test_a_run_that_fails_is_named_and_the_others_are_kept(
    parts: Parts, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(core: Any, run: families.Run, *rest: Any) -> FakeStep:
        if run.source == "ring":
            raise RuntimeError("the kernel failed")
        return FakeStep(1.0, (2.0, 2.0))

    runs = [families.FAMILIES[name] for name in ("tiles, a band", "rows, 16 bits")]
    monkeypatch.setattr(kernels, "prepare", prepare)
    monkeypatch.setattr(kernels, "unique_runs", lambda: runs * 7)
    monkeypatch.setattr(kernels, "STRIDE_OF_SMALL", 1)
    kernels.main(words)
    ring, shuffle = parts().values()
    assert (ring.outcome, ring.reason) == (FAILED, "RuntimeError: the kernel failed")
    assert shuffle.outcome == PASSED
    table = pd.read_csv(tmp_path / kernels.FILE)
    assert set(table["source"]) == {"shuffle"}
    assert len(table) == 8  # both modes, both launches, both caches


# --- Rivals -----------------------------------------------------------------------------


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "NAMES", ["core", "core-all"])


@pytest.mark.usefixtures("rivals")
def test_a_wrong_rival_is_named_and_not_timed(
    parts: Parts, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_tool(command: Sequence[str], limit: float) -> tuple[int, str]:
        wrong = command[-2] == "core-all"
        return int(wrong), f"Traceback\n{WrongResultError.__name__}: it is wrong"

    monkeypatch.setattr(peers, "run_tool", run_tool)
    peers.main(words)
    found = parts()
    assert found["check core"].outcome == PASSED
    assert found["check core-all"].outcome == FAILED
    assert "exit status 1: WrongResultError: it is wrong" in found["check core-all"].reason
    assert set(pd.read_csv(tmp_path / peers.FILE)["impl"]) == {"core"}


@pytest.mark.usefixtures("rivals")
def test_a_rival_that_finds_no_room_is_named_and_the_others_are_timed(
    parts: Parts, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = peers.variants

    def variants(name: str, *rest: Any) -> Iterator[tuple[str, Step]]:
        if name == "core-all":
            raise MemoryError("CUDA out of memory")
        return right(name, *rest)

    monkeypatch.setattr(peers, "variants", variants)
    monkeypatch.setattr(peers, "run_tool", lambda command, limit: (0, ""))
    peers.main(words)
    (failed,) = (part for part in parts().values() if part.outcome == FAILED)
    assert failed.name == "core-all, train, 24x5x32, float32"
    assert failed.reason == "MemoryError: CUDA out of memory"
    assert set(pd.read_csv(tmp_path / peers.FILE)["impl"]) == {"core"}


def test_what_is_not_installed_is_left_out_with_what_to_install(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = WAYS["inf-cl-triton"]
    missing = type(way)(**{**vars(way), "packages": ("no_such_package",)})
    monkeypatch.setitem(WAYS, "inf-cl-triton", missing)
    assert not peers.check("inf-cl-triton", "gpu")
    assert parts()["check inf-cl-triton"].reason == (
        "no_such_package is not installed: pip install -e .[bench,bench-gpu]"
    )


def test_ratios_are_to_this_packages_step_with_the_same_candidates() -> None:
    times = {key: np.ones(3) for key in (("core", "plain"), ("core-all", "plain"))}
    assert peers.baseline_of(("torch", "plain"), times) == ("core", "plain")
    assert peers.baseline_of(("liger", "plain"), times) == ("core-all", "plain")
    assert peers.baseline_of(("torch", "graph"), times) == ("core", "plain")
    assert peers.baseline_of(("jax", "plain"), {}) is None


@pytest.mark.parametrize(
    ("name", "batch_size", "expected"),
    [
        ("torch", 8192, True),
        ("torch-in-batch", 8192, True),
        ("torch-in-batch", 65536, False),  # its graph would keep gigabytes
        ("liger", 8192, False),  # it waits for the device
        ("jax", 8192, False),
    ],
)
def test_what_can_be_recorded_is(name: str, batch_size: int, expected: bool) -> None:
    rows = np.broadcast_to(np.float32(0), (batch_size, 128))
    problem = Problem(rows, rows, 50, "bfloat16")
    assert peers.can_be_recorded(name, True, problem) is expected


def test_every_size_fits_the_rivals_that_the_documents_compare() -> None:
    for (size, training, _), name in itertools.product(peers.SIZES, ("core", "core-all")):
        assert not [*peers.why_not(name, size, "gpu", training)]
    assert peers.SIZES[0] == (Size(8192, 50, 128, "bfloat16"), True, True)


def test_only_torch_compile_is_slow_to_make_ready() -> None:
    slow = [name for name in peers.NAMES if peers.is_torch_compile(name)]
    assert slow == ["torch-compile", "torch-in-batch-compile"]


# --- ncu --------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["(anonymous namespace)", "<unnamed>", "unnamed>"])
def test_a_kernel_is_named_without_its_namespaces_however_ncu_writes_them(
    space: str,
) -> None:
    found = ncu.short_name(f"void negative_cosine::cuda::{space}::sum_kernel<float>(int)")
    assert found == "sum_kernel<float>"


HEADER = {
    "ID": ("", "0"),
    "Kernel Name": (
        "",
        "void negative_cosine::cuda::(anonymous namespace)::forward_tiles_kernel"
        "<negative_cosine::cuda::TileShape<(int)128>>(LossParams, int)",
    ),
    "gpu__time_duration.sum": ("nsecond", "12,500"),
    "sm__pipe_tensor_op_hmma_cycles_active.avg.pct_of_peak_sustained_active": ("%", "41.5"),
    "sm__inst_executed_pipe_tensor_op_imma.avg.pct_of_peak_sustained_active": ("%", "0"),
    "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum": ("", "1,024"),
    "lts__t_bytes.sum.per_second": ("Gbyte/second", "1.5"),
    "dram__bytes.sum.per_second": ("byte/second", "250,000,000"),
    "smsp__issue_active.avg.pct_of_peak_sustained_active": ("%", "33.25"),
    "sm__warps_active.avg.pct_of_peak_sustained_active": ("%", "6.1"),
    "launch__registers_per_thread": ("register/thread", "167"),
    **{
        f"smsp__average_warps_issue_stalled_{reason}_per_issue_active.ratio": ("", cycles)
        for reason, cycles in {
            "barrier": "0.5",
            "wait": "1.25",
            "wait_not_issued": "9",
            "selected": "7",
            "math_pipe_throttle": "2",
            "lg_throttle": "n/a",
            "short_scoreboard": "0.1",
        }.items()
    },
}


def csv_lines(launches: int) -> list[str]:
    quoted = [[f'"{name}"' for name in HEADER]]
    quoted += [[f'"{values[row]}"' for values in HEADER.values()] for row in (0, 1)]
    lines = [",".join(row) for row in quoted]
    return ["==PROF== Connected to process 1", *lines[:2], *[lines[2]] * launches]


def ncu_that_writes(lines: list[str]) -> str:
    text = "\n".join(lines)
    return f"open(sys.argv[sys.argv.index('--log-file') + 1], 'w').write({text!r})"


@pytest.fixture
def one_family(monkeypatch: pytest.MonkeyPatch) -> None:
    family = {"tiles, 16 bits": families.FAMILIES["tiles, 16 bits"]}
    monkeypatch.setattr(ncu, "FAMILIES", family)
    monkeypatch.setattr(ncu, "SECONDS_OF_A_FAMILY", 1)
    # No program here needs the device.
    monkeypatch.setattr(ncu, "load_core", lambda name: command.load_core("emulated"))


@pytest.mark.usefixtures("one_family")
@pytest.mark.parametrize("hears", [True, False])
def test_the_launches_of_the_second_step_become_rows(
    hears: bool, path: Path, parts: Parts, tmp_path: Path
) -> None:
    # It begins where the program says so, or else it looks at both steps.
    only_the_second = ncu_that_writes(csv_lines(3 if hears else 0))
    program(
        path,
        "ncu",
        "start = sys.argv[sys.argv.index('--profile-from-start') + 1]\n"
        f"if start == 'off': {only_the_second}\nelse: {ncu_that_writes(csv_lines(6))}",
    )
    ncu.main(command.words_for(tmp_path, "device", small=False))
    (part,) = parts().values()
    assert (part.outcome, part.facts["launches"]) == (PASSED, 3)
    table = pd.read_csv(tmp_path / ncu.FILE)
    assert len(table) == 3
    row = table.iloc[0]
    assert row["kernel"] == "forward_tiles_kernel<TileShape<(int)128>>"
    assert row["duration_us"] == 12.5
    assert row["tensor_pipe_percent"] == 41.5
    assert row["shared_wavefronts"] == 1024
    assert row["l2_bytes_per_second"] == 1.5e9
    assert row["memory_bytes_per_second"] == 2.5e8
    assert row["issue_slots_percent"] == 33.25
    assert row["occupancy_percent"] == 6.1
    assert row["registers"] == 167
    assert [row[name] for name in ncu.STALLS] == [
        "math_pipe_throttle 2.00",
        "wait 1.25",
        "barrier 0.50",
    ]
    assert pd.isna(row["memory_percent"])  # which this ncu does not know


@pytest.mark.usefixtures("one_family")
@pytest.mark.parametrize(
    ("code", "outcome", "reason"),
    [
        (None, LEFT_OUT, "ncu is not on PATH: Nsight Compute has it"),
        ("print('==ERROR== no permission'); sys.exit(1)", FAILED, "status 1: ==ERROR== no"),
        (CRASH, FAILED, "ncu ended with status -11"),
        (HANG, FAILED, "took longer than 1 s"),
        (NONSENSE, FAILED, "ncu printed no table: "),
        (ncu_that_writes(["lorem", "ipsum"]), FAILED, "ncu printed no table: lorem"),
        (ncu_that_writes(csv_lines(0)), FAILED, "ncu saw no launch"),
    ],
    ids=["missing", "fails", "crashes", "hangs", "nonsense", "no table", "no launch"],
)
def test_an_ncu_that_shows_nothing_is_passed_over(
    code: str | None, outcome: str, reason: str, path: Path, parts: Parts, tmp_path: Path
) -> None:
    if code is not None:
        program(path, "ncu", code)
    ncu.main(command.words_for(tmp_path, "device", small=False))
    (part,) = parts().values()
    assert (part.outcome, reason in part.reason) == (outcome, True), part.reason


def test_the_profiled_program_runs_one_family() -> None:
    core = command.load_core("emulated")
    core.count_traffic(True)
    core.reset_statistics()
    one_step.main(["rows, 16 bits", "--core", "emulated", "--small"])
    launches = len(core.statistics())
    core.count_traffic(False)
    assert launches == 2 * 3


# --- The whole --------------------------------------------------------------------------


def planned(*words: str) -> list[steps.Step]:
    return gpu_evidence.make_steps(gpu_evidence.parse(["--output", "results", *words]))


def test_all_steps_run_in_their_order_correctness_first() -> None:
    names = [step.name for step in planned()]
    assert names == [
        *("device", "vectors", "suite", "sanitizer"),
        *("kernels", "warpgroups", "peers", "ncu"),
    ]


def test_the_script_may_be_started_as_a_file_from_anywhere(tmp_path: Path) -> None:
    script = Path(gpu_evidence.__file__).resolve()
    words = ["--dry-run", "--only", "device", "--output", "results"]
    found = subprocess.run(
        [sys.executable, str(script), *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert (tmp_path / "results" / gpu_evidence.CHECKS).exists()


def test_only_the_steps_that_are_named_run() -> None:
    assert [step.name for step in planned("--only", "ncu", "vectors")] == ["vectors", "ncu"]


def test_a_step_is_told_what_to_run_on() -> None:
    (step,) = planned("--only", "kernels")
    assert step.command[-4:] == ["--output", "results", "--core", "device"]
    (step,) = planned("--only", "kernels", "--dry-run")
    assert step.command[-3:] == ["--core", "emulated", "--small"]


@pytest.mark.parametrize(("outcome", "status"), [(PASSED, 0), (LEFT_OUT, 0), (FAILED, 1)])
def test_what_every_step_found_is_written_as_it_comes(
    outcome: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def run_steps(
        plan: Sequence[steps.Step], minutes: float, log: Path
    ) -> Iterator[Outcome]:
        assert minutes == 3
        assert log == tmp_path / "log.txt"
        for step in plan:
            yield Outcome(step.name, outcome, parts=[Part("a part", outcome)])
            written = json.loads((tmp_path / gpu_evidence.CHECKS).read_text())
            seen.append([each["step"] for each in written["steps"]])

    monkeypatch.setattr(gpu_evidence, "run_steps", run_steps)
    with pytest.raises(SystemExit) as end:
        gpu_evidence.main(["--output", str(tmp_path), "--minutes", "3"])
    assert end.value.code == status
    names = list(gpu_evidence.LIMITS)
    assert seen == [names[: count + 1] for count in range(len(names))]
