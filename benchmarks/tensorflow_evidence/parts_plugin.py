"""A plugin of pytest: each test is a part of a step, reported when it begins and ends.

So that what ran before a crash is known, and which test was running. With pytest-xdist
that is done where the workers' reports arrive: a worker that dies is replaced, and its test
has failed. With ``--longest-test SECONDS`` a test that takes longer ends its worker.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.steps import FAILED, LEFT_OUT, PASSED, RUNNING, Part, report_part

# Before pytest takes the output away: a traceback of a test that hangs goes there.
_log = os.fdopen(os.dup(2), "w")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--longest-test``."""
    parser.addoption("--longest-test", type=float, default=0, metavar="SECONDS")


def pytest_configure(config: pytest.Config) -> None:
    """Reports where the reports of all tests arrive, which a worker is not."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Reporter(), "parts of a step")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Ends this process, with a traceback, where a test hangs."""
    seconds = item.config.getoption("longest_test")
    if seconds:
        faulthandler.dump_traceback_later(seconds, exit=True, file=_log)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


class Reporter:
    """Writes the parts."""

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test begins."""
        report_part(Part(short(nodeid), RUNNING))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test was set up, has run, or was torn down; or its worker is gone."""
        outcome = {"failed": FAILED, "skipped": LEFT_OUT, "passed": PASSED}[report.outcome]
        if outcome != PASSED or report.when == "call":
            facts = {"seconds": round(report.duration, 3)}
            report_part(Part(short(report.nodeid), outcome, why(report.longrepr), facts))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """All tests were found; no more is wanted of a dry run."""
        if session.config.getoption("collectonly"):
            for item in session.items:
                report_part(Part(short(item.nodeid), LEFT_OUT, "collected: needs a GPU"))


def short(nodeid: str) -> str:
    """A test's name without its folder."""
    return nodeid.rsplit("/", 1)[-1]


def why(longrepr: Any) -> str:
    """Why a test failed or was skipped: without the traceback, which is in the log."""
    crash = getattr(longrepr, "reprcrash", None)
    if crash is not None:
        return str(crash.message)
    return str(longrepr[2] if isinstance(longrepr, tuple) else longrepr or "")
