"""Runs in steps: what a step finds is kept, however it ends, and the others run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import steps
from benchmarks.steps import FAILED, LEFT_OUT, PASSED, Outcome, Part, Step
from tests.support.checkout import ROOT

HEADER = "import os, sys, time\nfrom benchmarks.steps import LeftOutError, part\n"


def python(name: str, program: str, limit: float = 20.0) -> Step:
    return Step(name, [sys.executable, "-c", HEADER + program], limit)


def run(folder: Path, *wanted: Step, minutes: float = 1.0) -> list[Outcome]:
    return list(steps.run_steps(wanted, minutes, folder / "run.log"))


def run_one(folder: Path, program: str, limit: float = 20.0) -> Outcome:
    (outcome,) = run(folder, python("step", program, limit))
    return outcome


def is_running(number: int) -> bool:
    status = Path(f"/proc/{number}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def await_file(path: Path) -> str:
    """What a step writes into a file once it is under way."""
    deadline = time.monotonic() + 20
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < deadline, path
        time.sleep(0.02)
    return path.read_text()


def await_end(number: int) -> None:
    deadline = time.monotonic() + 20
    while is_running(number):
        assert time.monotonic() < deadline, number
        time.sleep(0.02)


def test_a_step_that_passes_has_its_parts_with_what_they_found(tmp_path: Path) -> None:
    program = "with part('copy') as facts: facts['bandwidth'] = 3.5"
    outcome = run_one(tmp_path, program)
    copy = outcome.part("copy")
    assert copy is not None
    assert (outcome.outcome, outcome.reason, copy.outcome) == (PASSED, "", PASSED)
    assert copy.facts["bandwidth"] == 3.5
    assert 0 <= copy.facts["seconds"] <= outcome.seconds
    assert outcome.part("another") is None


def test_a_step_runs_where_its_modules_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run_one(Path("."), "with part('where') as facts: facts['cwd'] = os.getcwd()")
    (where,) = outcome.parts
    assert where.facts["cwd"] == str(ROOT)


def test_a_failed_part_fails_its_step_and_the_parts_behind_it_run(tmp_path: Path) -> None:
    program = (
        "with part('wrong') as facts: facts['loss'] = 2; assert 1 == 2, 'not the loss'\n"
        "with part('right'): pass"
    )
    outcome = run_one(tmp_path, program)
    wrong, right = outcome.parts
    assert (outcome.outcome, outcome.reason) == (FAILED, "1 of 2 parts failed")
    assert (wrong.outcome, wrong.reason) == (FAILED, "AssertionError: not the loss")
    assert wrong.facts["loss"] == 2
    assert right.outcome == PASSED
    assert "Traceback" in (tmp_path / "run.log").read_text()


def test_a_part_that_cannot_run_here_is_left_out_and_fails_nothing(tmp_path: Path) -> None:
    program = "with part('product'): raise LeftOutError('no cuBLAS')\n"
    outcome = run_one(tmp_path, program)
    assert (outcome.outcome, outcome.reason) == (LEFT_OUT, "no cuBLAS")
    outcome = run_one(tmp_path, program + "with part('sum'): pass")
    assert outcome.outcome == PASSED
    assert outcome.parts[0] == Part(
        "product", LEFT_OUT, "no cuBLAS", outcome.parts[0].facts
    )


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("os.abort()", "ended by signal 6, Aborted"),
        ("os.kill(os.getpid(), 11)", "ended by signal 11, Segmentation fault"),
        ("print('no room'); os._exit(3)", "exit status 3: no room"),
        ("sys.exit('gone')", "exit status 1: gone"),
        ("os._exit(4)", "exit status 4: no output"),
    ],
)
def test_the_part_that_ends_its_process_is_named_and_the_next_step_runs(
    ending: str, reason: str, tmp_path: Path
) -> None:
    program = f"with part('first'): pass\nwith part('second'): {ending}"
    crash, after = run(tmp_path, python("crash", program), python("after", ""))
    assert (crash.outcome, after.outcome) == (FAILED, PASSED)
    assert crash.reason.startswith("1 of 2 parts failed")
    assert [part.outcome for part in crash.parts] == [PASSED, FAILED]
    assert crash.parts[1].reason == reason
    assert ("exit status 1" in reason) != (reason in crash.reason)  # once is enough


def test_a_part_in_which_the_process_ends_as_if_all_was_well_has_failed(
    tmp_path: Path,
) -> None:
    outcome = run_one(tmp_path, "with part('half'): os._exit(0)")
    assert outcome.outcome == FAILED
    assert "ended inside of it, with exit status 0" in outcome.parts[0].reason


def test_a_step_that_hangs_is_stopped_and_says_where_it_was(tmp_path: Path) -> None:
    program = "def wait_for_ever():\n  time.sleep(600)\nwith part('sum'): wait_for_ever()"
    outcome, after = run(tmp_path, python("hangs", program, 1.5), python("after", ""))
    assert (outcome.outcome, after.outcome) == (FAILED, PASSED)
    assert outcome.parts[0].reason == "stopped: took longer than 1.5 s"
    assert outcome.seconds < 10
    assert "in wait_for_ever" in (tmp_path / "run.log").read_text()


def test_a_step_that_ignores_a_signal_is_killed(tmp_path: Path) -> None:
    program = "import signal; signal.signal(6, signal.SIG_IGN); time.sleep(600)"
    outcome = run_one(tmp_path, program, 1.0)
    assert outcome.outcome == FAILED
    assert outcome.seconds < 15


@pytest.mark.parametrize("ending", ["time.sleep(600)", "os.abort()", "pass"])
def test_nothing_that_a_step_started_outlives_it(ending: str, tmp_path: Path) -> None:
    file = tmp_path / "child"
    program = (
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"print(child.pid, file=open({str(file)!r}, 'w'))\n{ending}"
    )
    run_one(tmp_path, program, 1.5)
    await_end(int(file.read_text()))


def test_a_missing_program_is_named_and_passed_over(tmp_path: Path) -> None:
    missing, after = run(
        tmp_path, Step("tool", ["no-such-tool", "--help"], 5), python("after", "")
    )
    assert (missing.outcome, after.outcome) == (LEFT_OUT, PASSED)
    assert missing.reason == "no-such-tool: No such file or directory"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\xff\xfe\x00 nothing",
        b"[1, 2]",
        b'{"name": "half',
        b'{"name": "a"}',
        b'{"name": [], "outcome": "passed"}',
        b'{"name": "a", "outcome": "splendid"}',
        b'{"name": "a", "outcome": "passed", "facts": 3}',
        b'{"name": "a", "outcome": "passed", "more": 3}',
    ],
)
def test_nonsense_in_place_of_a_part_fails_the_step_and_hides_no_other(
    nonsense: bytes, tmp_path: Path
) -> None:
    program = (
        "with part('before'): pass\n"
        f"open(os.environ['BENCHMARK_STEP_PARTS'], 'ab').write({nonsense!r})"
    )
    broken, after = run(
        tmp_path, python("broken", program), python("after", "with part('fine'): pass")
    )
    assert broken.reason == "1 of 2 parts failed"
    assert broken.parts[0].outcome == PASSED
    assert "no part in JSON" in broken.parts[1].reason
    assert (after.outcome, len(after.parts)) == (PASSED, 1)


def test_bytes_that_are_no_text_are_output_like_any_other(tmp_path: Path) -> None:
    outcome = run_one(tmp_path, "os.write(1, b'\\xff\\xfe\\n'); sys.exit(5)")
    assert outcome.reason.startswith("exit status 5: ")


def test_when_the_time_is_over_the_running_step_is_stopped_and_the_others_left_out(
    tmp_path: Path,
) -> None:
    program = "with part('slow'): time.sleep(600)"
    slow, late = run(
        tmp_path, python("slow", program, 60), python("late", ""), minutes=2.5 / 60
    )
    assert (slow.outcome, late.outcome) == (LEFT_OUT, LEFT_OUT)
    assert "minutes of the run were over" in slow.reason
    assert "minutes of the run were over" in late.reason
    assert slow.parts[0].outcome == LEFT_OUT


def test_a_step_that_is_left_out_on_purpose_says_why(tmp_path: Path) -> None:
    (outcome,) = run(tmp_path, Step("fit", [], 5, left_out="XLA does not run here"))
    assert (outcome.outcome, outcome.reason) == (LEFT_OUT, "XLA does not run here")


def test_a_step_can_be_chosen_by_what_came_before(tmp_path: Path) -> None:
    outcomes: list[Outcome] = []

    def plan() -> Iterator[Step]:
        yield python("first", "sys.exit(3)")
        yield python(f"after one that {outcomes[0].outcome}", "")

    for outcome in steps.run_steps(plan(), 1, tmp_path / "run.log"):
        outcomes.append(outcome)
    assert outcomes[1].step == "after one that failed"


def test_what_a_run_had_found_when_it_is_ended_is_on_disk_and_its_step_ends_too(
    tmp_path: Path,
) -> None:
    file = tmp_path / "step"
    step = HEADER + (
        "with part('done'): pass\n"
        f"print(os.getpid(), file=open({str(file)!r}, 'w'), flush=True); time.sleep(600)"
    )
    run = (
        "import sys; from pathlib import Path\n"
        "from benchmarks.steps import Step, run_steps\n"
        f"step = Step('step', [sys.executable, '-c', {step!r}], 60)\n"
        f"list(run_steps([step], 1, Path({str(tmp_path / 'run.log')!r})))"
    )
    process = subprocess.Popen([sys.executable, "-c", run], cwd=ROOT)
    number = int(await_file(file))
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM
    await_end(number)
    assert '"name": "done"' in (tmp_path / "run.jsonl").read_text()


def test_without_a_run_a_part_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(steps.PARTS_FILE, raising=False)
    with steps.part("alone"):
        pass
    assert '"outcome": "passed"' in capsys.readouterr().out


def test_the_summary_names_what_did_not_pass_and_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts = [
        Part("absent", LEFT_OUT, "no [cuBLAS]"),
        Part("good", PASSED),
        Part("bad", FAILED, "wrong\nand a page of it"),
    ]
    steps.print_summary(
        [
            Outcome("tests", FAILED, "1 of 3 parts failed", 3.25, parts),
            Outcome("fit", LEFT_OUT, "no time", 0.0, parts[:1]),
        ]
    )
    printed = capsys.readouterr().out
    assert printed.splitlines()[:2] == [
        "failed: tests: bad: wrong",
        "left out: tests: absent: no [cuBLAS]",
    ]
    assert "1 of 3 parts failed" in printed
    assert "no time" in printed
    assert "a page of it" not in printed


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("AssertionError: off by 2\nassert 1 == 3", "AssertionError: off by 2"),
        (
            "InternalError: Graph execution error:\n\n"
            "Detected at node Loss defined at (most recent call last):\n"
            '  File "loss.py", line 6, in loss\n\nno kernel image\n'
            "\t [[{{node Loss}}]] [Op:__inference_step_1]",
            "no kernel image",
        ),
        (
            "InternalError: Exception encountered when calling Dense.call().\n\n"
            "\x1b[1m{{function_node __wrapped__MatMul_device_/GPU:0}} "
            "No blas support for stream [Op:MatMul]\x1b[0m\n\n"
            "Arguments received by Dense.call():\n  • training=None",
            "No blas support for stream [Op:MatMul]",
        ),
        ("Graph execution error:\n\n", "Graph execution error:"),
        ("", ""),
    ],
)
def test_the_line_of_a_summary_says_what_happened_and_not_where(
    reason: str, line: str
) -> None:
    assert steps.first_line(reason) == line


def test_parts_with_the_same_reason_share_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts = [Part(f"test {number}", FAILED, "no room") for number in range(9)]
    steps.print_summary([Outcome("tests", FAILED, "", 1.0, parts)])
    line = "failed: tests: test 0; test 1; test 2 and 6 more: no room"
    assert capsys.readouterr().out.splitlines()[0] == line


def test_a_summary_stays_short_where_everything_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parts = [Part(f"test {n}", FAILED, f"{n}" + "x" * 9999) for n in range(500)]
    steps.print_summary([Outcome("tests", FAILED, "all of them", 3.25, parts)])
    printed = capsys.readouterr().out
    assert f"tests: {500 - steps.MOST_LINES} more reasons" in printed
    assert len(printed) < 8000


def test_only_a_failure_makes_a_run_fail() -> None:
    assert not steps.any_failed([Outcome("a", PASSED), Outcome("b", LEFT_OUT)])
    assert steps.any_failed([Outcome("a", PASSED), Outcome("b", FAILED)])
