"""The core on a 64-bit ARM processor, which QEMU imitates: `make aarch64` builds it."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess

import pytest

from tests.cpu import sanitized
from tests.support.checkout import ROOT

pytestmark = pytest.mark.nightly

DRIVER = ROOT / "build" / "aarch64" / "driver"
QEMU = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")


@functools.cache
def run_driver(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs it; without the build or QEMU the test is skipped, with what is missing."""
    if not DRIVER.is_file():
        pytest.skip(
            "no driver for aarch64: apt install g++-aarch64-linux-gnu; make aarch64"
        )
    if QEMU is None:
        pytest.skip("nothing runs programs for aarch64: apt install qemu-user-static")
    return subprocess.run([QEMU, DRIVER, *arguments], capture_output=True, text=True)


def test_the_portable_kernels_are_taken() -> None:
    assert run_driver("--about").stdout == "portable\n"


def test_all_ways_to_run_a_pass_agree_bit_for_bit() -> None:
    result = run_driver()
    assert result.returncode == 0, result.stderr
    assert re.match(r"portable: \d{4,} cases", result.stdout)


def test_the_bits_are_those_of_the_portable_kernels_here() -> None:
    here = sanitized.run_driver("address", instruction_set="portable").printed
    assert run_driver().stdout.splitlines()[-1] == here.splitlines()[-1]
