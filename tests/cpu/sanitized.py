"""The core's driver under a sanitizer, which ``make sanitizers`` builds."""

from __future__ import annotations

import functools
import os
import subprocess
from dataclasses import dataclass

from tests.support.checkout import ROOT

FOLDER = ROOT / "build" / "sanitizers"
SANITIZERS = ("address", "thread")


@dataclass(frozen=True)
class Report:
    """How a run of the driver ended, and what it and the sanitizer printed."""

    exit_code: int
    printed: str
    reported: str

    @property
    def is_clean(self) -> bool:
        """Whether neither the driver nor the sanitizer found anything."""
        return self.exit_code == 0 and not self.reported


@functools.cache
def run_driver(
    sanitizer: str,
    *arguments: str,
    instruction_set: str = "avx512",
    fill: int = 0xBE,
    leaks: bool = False,
) -> Report:
    """Runs the driver with kernels of at most ``instruction_set``.

    ``fill`` is in every byte of fresh memory under AddressSanitizer.
    """
    driver = FOLDER / sanitizer / "driver"
    if not driver.is_file():
        raise FileNotFoundError(f"{driver} is not built: run make sanitizers")
    # On the stack that this check makes, GCC 12 does not align vectors of 64 bytes, and
    # their aligned moves fault. The same sources are checked with shorter vectors.
    returned = int(instruction_set != "avx512")
    checks = f"detect_leaks={int(leaks)}:detect_stack_use_after_return={returned}"
    filled = f"malloc_fill_byte={fill}:max_malloc_fill_size=1000000"
    environment = {
        **os.environ,
        "NEGATIVE_COSINE_MAX_ISA": instruction_set,
        "ASAN_OPTIONS": f"{checks}:{filled}",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "TSAN_OPTIONS": "halt_on_error=1",
    }
    command = [*without_random_addresses(), str(driver), *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    return Report(result.returncode, result.stdout, result.stderr)


@functools.cache
def instruction_sets() -> list[str]:
    """Those that this machine runs, and the driver has kernels for."""
    levels = ("portable", "avx2", "avx512")
    named = [run_driver("thread", "--about", instruction_set=level) for level in levels]
    return sorted({report.printed.strip() for report in named}, key=levels.index)


@functools.cache
def without_random_addresses() -> tuple[str, ...]:
    """What a command starts with, to have the addresses that the sanitizers know of.

    On machines that draw them from more bits (Linux: ``vm.mmap_rnd_bits`` above 28), the
    sanitizers of GCC 12 may end before the program starts. Nothing, where a container
    forbids ``setarch``.
    """
    setarch = ("setarch", "--addr-no-randomize")
    try:
        subprocess.run([*setarch, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return ()
    return setarch
