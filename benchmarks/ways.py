"""The implementations that are compared: `--impl`.

This table knows no framework. A way's module makes its steps, and is imported, with the
framework it needs, when the first step is made.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.gpu_model import Size
from benchmarks.gpu.tile_shape import BYTES
from benchmarks.problem import Problem, Step

BASELINE = "fused"  # what ratios are to, where it is among the ways that run

SIXTEEN_BITS = ("float16", "bfloat16")
UP_TO_FLOAT32 = (*SIXTEEN_BITS, "float32")


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
    packages: tuple[str, ...] = ()  # what it imports beyond this package's requirements
    only_on: str = ""  # the device, where there is but one that it is for
    dtypes: tuple[str, ...] = tuple(BYTES)
    overflows_float16: bool = False
    dim_multiple: int = 1  # D must be one
    batch_multiple: int = 1  # B must be one, or smaller
    one_doc_a_query: bool = False  # it knows no documents but the queries' own
    # Within a step the host reads from the device, and waits: no CUDA graph can record it.
    waits: bool = False
    reads_alone: bool = False  # computes no loss: the floor

    @property
    def needs_tensorflow(self) -> bool:
        """Whether it is written in TensorFlow."""
        return self.module == "tensorflow_ways"

    @property
    def gathers(self) -> bool:
        """Whether each query reads K rows that it shares with no neighbour."""
        return self.sampler == "shuffle"

    def predicted_bytes(self, size: Size, training: bool) -> int:
        """Memory that a step takes beside inputs and outputs, roughly."""
        width = size.num_docs if self.sampler == "all" else gathered_numbers(size)
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


def _core(label: str, sampler: str) -> Way:
    return Way(label, "core_ways", sampler=sampler, masks_self=True, only_on="gpu")


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
        one_doc_a_query=loss == "article",
    )


def _torch(
    label: str,
    loss: str,
    copies: tuple[int, int] = (0, 0),
    compiled: bool = False,
    sampler: str = "shuffle",
) -> Way:
    return Way(
        label,
        "torch_ways",
        loss,
        compiled,
        sampler,
        copies=copies,
        packages=("torch",),
        one_doc_a_query=True,
    )


def _kernels(label: str, loss: str, *packages: str, **facts: Any) -> Way:
    """Kernels for PyTorch in Triton: they never hold all logits, nor gathered rows."""
    facts = {"sampler": "all", "dtypes": UP_TO_FLOAT32, "one_doc_a_query": True, **facts}
    packages = ("torch", "triton", *packages)
    return Way(label, "torch_ways", loss, packages=packages, only_on="gpu", **facts)


def _jax(label: str, loss: str, copies: tuple[int, int], sampler: str = "shuffle") -> Way:
    return Way(label, "jax_ways", loss, True, sampler, copies=copies, packages=("jax",))


WAYS = {
    "fused": _ours("fused", "fused"),
    "fused-xla": _ours("fused, XLA", "fused", compiled=True),
    "fused-ring": _ours("fused, ring", "fused-ring", "ring"),
    "fused-all": _ours("fused, all", "fused-all", "all"),
    "core": _core("CUDA core alone", "shuffle"),
    "core-ring": _core("CUDA core alone, ring", "ring"),
    "core-all": _core("CUDA core alone, all", "all"),
    "article": _tensorflow("article's code, right axis", "article", (3, 5)),
    "article-xla": _tensorflow("article's code, right axis, XLA", "article", (3, 4), True),
    "vectorised": _tensorflow("vectorised TensorFlow", "vectorised", (2, 3)),
    "vectorised-xla": _tensorflow("vectorised TensorFlow, XLA", "vectorised", (2, 3), True),
    "in-batch": _tensorflow("full in-batch softmax", "in-batch", (2, 2)),
    "in-batch-xla": _tensorflow("full in-batch softmax, XLA", "in-batch", (2, 2), True),
    "torch": _torch("PyTorch", "sampled", (2, 3)),
    "torch-compile": _torch("PyTorch, torch.compile", "sampled", (1, 2), compiled=True),
    "torch-in-batch": _torch(
        "full in-batch softmax, PyTorch", "in-batch", (3, 4), sampler="all"
    ),
    "torch-in-batch-compile": _torch(
        "full in-batch softmax, torch.compile", "in-batch", (2, 2), True, "all"
    ),
    "inf-cl": _torch("tiled softmax, PyTorch", "tiled", sampler="all"),
    # It makes float32 of any rows, and TensorFloat-32 of what its tensor cores multiply. It
    # cuts rows into 16 to 256 numbers, a power of two. In a batch of some tiles and a rest
    # its gradients of doc take in numbers from behind the last row's.
    "inf-cl-triton": _kernels(
        "Inf-CL's Triton kernels",
        "inf-cl-triton",
        "inf_cl",
        dim_multiple=16,
        batch_multiple=64,
    ),
    # A product with the logits of some queries at a time, and a kernel that turns these
    # into their gradient in place. Its float64 is rounded to float32.
    "liger": _kernels(
        "Liger's fused linear cross-entropy", "liger", "liger_kernel", waits=True
    ),
    # Where 128 x 128 weights are all below a 32nd of the dtype's epsilon, it leaves their
    # part of the gradient out, as it does by default. It has no gradient in float32.
    "cut-cross-entropy": _kernels(
        "Cut Cross-Entropy",
        "cut-cross-entropy",
        "cut_cross_entropy",
        dtypes=SIXTEEN_BITS,
        waits=True,
    ),
    "triton-atomics": _kernels(
        "sampled softmax in Triton, atomics", "triton-atomics", sampler="shuffle"
    ),
    "jax": _jax("JAX, jit", "sampled", (2, 3)),
    "jax-in-batch": _jax("full in-batch softmax, JAX, jit", "in-batch", (2, 3), "all"),
    "reference": Way(
        "reference", "tensorflow_ways", "reference", masks_self=True, copies=(2, 4)
    ),
    "gather": Way("reading the rows alone", "gather_way", only_on="cpu", reads_alone=True),
}


def make_step(
    name: str, training: bool, problem: Problem, device: str = "cpu", threads: int = 2
) -> Step:
    """The loss alone, or the loss and both gradients as a tower takes them: dense."""
    module = importlib.import_module(f"benchmarks.{WAYS[name].module}")
    step: Step = module.make_step(WAYS[name], training, problem, device, threads)
    return step
