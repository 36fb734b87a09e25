"""A training step takes no more instructions than recorded, whatever the machine's speed.

A count does not depend on who else uses the machine, so a step that became 10% longer is
found where no clock would find it. It depends on the compiler, so it is compared with the
record where the compiler is the record's.
"""

from __future__ import annotations

import platform
import sys

import pytest

from tools.instruction_counts import (
    code_that_counts,
    count,
    growth_problem,
    recorded_code,
    recorded_counts,
    run_driver,
)

pytestmark = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"),
    reason="instructions are counted by x86-64's trap flag and Linux's signal for it",
)


@pytest.mark.parametrize("case", recorded_counts())
def test_a_training_step_takes_no_more_instructions_than_recorded(case: str) -> None:
    if code_that_counts() != recorded_code():
        pytest.skip(f"recorded for {recorded_code()}, and this is {code_that_counts()}")
    counted = count(case)[case]
    problem = growth_problem(case, counted, recorded_counts()[case])
    assert not problem, problem


def test_every_case_of_the_driver_is_recorded() -> None:
    assert run_driver("--cases").split() == list(recorded_counts())


def test_the_same_step_has_the_same_count_again() -> None:
    case = "indices_float32"
    first, again = count(case)[case], count(case)[case]
    assert abs(again / first - 1) < 1e-3


@pytest.mark.parametrize("case", recorded_counts())
def test_a_step_that_grew_by_eleven_percent_is_found_and_named(case: str) -> None:
    recorded = recorded_counts()[case]
    assert case in growth_problem(case, recorded * 111 // 100, recorded)
    assert growth_problem(case, recorded * 109 // 100, recorded) == ""
    assert growth_problem(case, recorded // 2, recorded) == ""
