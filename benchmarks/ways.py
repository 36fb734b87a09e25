"""The implementations that are compared: `--impl`.

This table knows no framework. A way's module makes its steps, and is imported, with the
framework it needs, when the first step is made.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from benchmarks.gpu_model import BYTES, Size
from benchmarks.problem import Problem, Step

BASELINE = "fused"  # what ratios are to, where it is among the ways that run


@dataclass(frozen=True)
class Way:
    """A way to compute the loss.

    ``copies`` says how many tensors of the size of the gathered rows, or of all logits of
    a full softmax, live at once in the loss alone and in a training step: rounded up from
    measured peaks, to tell beforehand what has no room.
    """

    label: str
    module: str
    loss: str = ""  # which of the module's losses
    compiled: bool = False
    sampler: str = "shuffle"
    masks_self: bool = False
    copies: tuple[int, int] = (0, 0)
    package: str = ""  # what it needs beyond this package's own requirements
    only_on_cpu: bool = False
    overflows_float16: bool = False
    reads_alone: bool = False  # computes no loss: the floor

    @property
    def gathers(self) -> bool:
        """Whether each query reads K rows that it shares with no neighbour."""
        return self.sampler == "shuffle"

    def predicted_bytes(self, size: Size, training: bool) -> int:
        """Memory that a step takes beside inputs and outputs, roughly."""
        width = size.batch_size if self.sampler == "all" else gathered_numbers(size)
        return self.copies[training] * size.batch_size * width * BYTES[size.dtype]


def gathered_numbers(size: Size) -> int:
    """The numbers of a query's positive and candidates."""
    return (size.num_negatives + 1) * size.dim


def row_bytes(size: Size, training: bool) -> int:
    """Bytes of rows that a step must read: of doc, and in training as many of query."""
    rows = size.batch_size * gathered_numbers(size) * BYTES[size.dtype]
    return 2 * rows if training else rows


def _ours(label: str, loss: str, sampler: str = "shuffle", compiled: bool = False) -> Way:
    return Way(label, "tensorflow_ways", loss, compiled, sampler, masks_self=True)


def _tensorflow(
    label: str, loss: str, copies: tuple[int, int], compiled: bool = False
) -> Way:
    return Way(
        label,
        "tensorflow_ways",
        loss,
        compiled,
        sampler="all" if loss == "in-batch" else "shuffle",
        copies=copies,
        # The article's exponentials are not taken relative to the largest: exp(20) is
        # more than float16 holds.
        overflows_float16=loss == "article",
    )


def _torch(
    label: str,
    loss: str,
    copies: tuple[int, int] = (0, 0),
    compiled: bool = False,
    sampler: str = "shuffle",
) -> Way:
    return Way(label, "torch_ways", loss, compiled, sampler, copies=copies, package="torch")


WAYS = {
    "fused": _ours("fused", "fused"),
    "fused-xla": _ours("fused, XLA", "fused", compiled=True),
    "fused-ring": _ours("fused, ring", "fused-ring", "ring"),
    "fused-all": _ours("fused, all", "fused-all", "all"),
    "article": _tensorflow("article's code, right axis", "article", (3, 5)),
    "article-xla": _tensorflow("article's code, right axis, XLA", "article", (3, 4), True),
    "vectorised": _tensorflow("vectorised TensorFlow", "vectorised", (2, 3)),
    "vectorised-xla": _tensorflow("vectorised TensorFlow, XLA", "vectorised", (2, 3), True),
    "in-batch": _tensorflow("full in-batch softmax", "in-batch", (2, 2)),
    "in-batch-xla": _tensorflow("full in-batch softmax, XLA", "in-batch", (2, 2), True),
    "torch": _torch("PyTorch", "sampled", (2, 3)),
    "torch-compile": _torch("PyTorch, torch.compile", "sampled", (1, 2), compiled=True),
    "inf-cl": _torch("tiled softmax, PyTorch", "tiled", sampler="all"),
    "jax": Way(
        "JAX, jit",
        "jax_ways",
        compiled=True,
        copies=(2, 3),
        package="jax",
        only_on_cpu=True,
    ),
    "reference": Way(
        "reference", "tensorflow_ways", "reference", masks_self=True, copies=(2, 4)
    ),
    "gather": Way(
        "reading the rows alone", "gather_way", only_on_cpu=True, reads_alone=True
    ),
}


def make_step(
    name: str, training: bool, problem: Problem, device: str = "cpu", threads: int = 2
) -> Step:
    """The loss alone, or the loss and both gradients as a tower takes them: dense."""
    module = importlib.import_module(f"benchmarks.{WAYS[name].module}")
    step: Step = module.make_step(WAYS[name], training, problem, device, threads)
    return step
