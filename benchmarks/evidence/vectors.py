"""What the device makes of its own instructions, recorded for the emulator to reproduce.

It also says where the emulator, as far as it is built here, does something else.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.evidence.command import parse
from benchmarks.evidence.device import vectors_module
from benchmarks.steps import LeftOutError, part

FILE = "vectors.npz"


def main(words: Sequence[str] | None = None) -> None:
    """Writes the file, and compares it with the emulator."""
    from tests.kernels import vectors

    arguments = parse(__doc__ or "", words)
    path = arguments.output / FILE
    with part("recorded") as found:
        if arguments.core == "emulated":  # a dry run: a file of the right kind
            vectors.save(vectors.record(vectors_module("_emulated_vectors")), path)
        else:
            found.update(vectors.record_on_device(vectors_module("_vectors"), path))
    with part("reproduced by the emulator") as found:
        try:
            emulator = vectors_module("_emulated_vectors")
        except ImportError as error:
            raise LeftOutError(str(error)) from error
        differences = vectors.differences(vectors.load(path), emulator)
        found.update(differences=differences)
        assert not differences, differences[0]


if __name__ == "__main__":
    main()
