"""Steps of PyTorch: a sampled softmax and a full one, as written and by kernels.

On the CPU PyTorch's threads are OpenMP's, TensorFlow's are its own: both sets live in the
process and wait while the other works.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks import library_losses
from benchmarks.problem import SCALE, Array, Problem, Step
from benchmarks.tiled_softmax import tiled_loss
from benchmarks.ways import Way

# Each size and pass compiles the loss anew; by default PyTorch stops at eight.
torch._dynamo.config.recompile_limit = 1024

Outputs = tuple[Tensor, ...]
Loss = Callable[..., Tensor]  # of query, doc, num_negatives and the candidates' table


def sampled_loss(
    query: Tensor, doc: Tensor, num_negatives: int, table: Tensor | None
) -> Tensor:
    """Unit rows, one gather by random indices, one cross-entropy."""
    query, doc = F.normalize(query, dim=1), F.normalize(doc, dim=1)
    if table is None:
        table = torch.randint(len(doc), (len(doc), num_negatives), device=doc.device)
    positive = (query * doc).sum(dim=1, keepdim=True)
    negative = torch.einsum("bd,bkd->bk", query, doc[table])
    logits = torch.cat([positive, negative], dim=1) * SCALE
    labels = torch.zeros(len(query), dtype=torch.long, device=query.device)
    return F.cross_entropy(logits, labels)


def in_batch_loss(query: Tensor, doc: Tensor) -> Tensor:
    """Unit rows, one product with all documents, one cross-entropy with its diagonal."""
    query, doc = F.normalize(query, dim=1), F.normalize(doc, dim=1)
    labels = torch.arange(len(query), device=query.device)
    return F.cross_entropy(query @ doc.T * SCALE, labels)


def atomics_loss(
    query: Tensor, doc: Tensor, num_negatives: int, table: Tensor | None
) -> Tensor:
    """The sampled loss by kernels of this repository, with int32 candidates."""
    from benchmarks.triton_softmax import sampled_softmax_loss  # it needs Triton

    if table is None:
        shape, device = (len(doc), num_negatives), doc.device
        table = torch.randint(len(doc), shape, dtype=torch.int32, device=device)
    return sampled_softmax_loss(query, doc, table.to(torch.int32))


def full(loss: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """A loss to which every other document is a negative: it needs no candidates."""

    def of_the_whole_batch(
        query: Tensor, doc: Tensor, num_negatives: int, table: Tensor | None
    ) -> Tensor:
        return loss(query, doc)

    return of_the_whole_batch


LOSSES: dict[str, Loss] = {
    "sampled": sampled_loss,
    "in-batch": full(in_batch_loss),
    "tiled": full(tiled_loss),
    "inf-cl-triton": full(library_losses.inf_cl_loss),
    "liger": full(library_losses.liger_loss),
    "cut-cross-entropy": full(library_losses.cut_cross_entropy_loss),
    "triton-atomics": atomics_loss,
}


def find_device(device: str) -> torch.device:
    """PyTorch's own name for the benchmark's ``cpu`` or ``gpu``, made ready.

    Raises:
        RuntimeError: PyTorch finds no GPU.
    """
    if device != "gpu":
        return torch.device(device)
    if not torch.cuda.is_available():
        raise RuntimeError(
            f"PyTorch {torch.__version__} finds no GPU: install its build for CUDA"
        )
    # As TensorFlow multiplies float32 by default.
    torch.backends.cuda.matmul.allow_tf32 = True
    return torch.device("cuda")


def make_step(
    way: Way, training: bool, problem: Problem, device: str, threads: int
) -> Step:
    """A step on inputs that stay where they are."""
    torch.set_num_threads(threads)
    where, dtype = find_device(device), getattr(torch, problem.dtype)
    query, doc = (
        torch.from_numpy(rows).to(where, dtype).requires_grad_(training)
        for rows in (problem.query, problem.doc)
    )
    table = None
    if problem.candidates:
        table = torch.from_numpy(problem.candidates.table).to(where, torch.long)
    # Sizes do not change while it runs: dynamic=False lets the compiler use them.
    loss = LOSSES[way.loss]
    if way.compiled:
        loss = torch.compile(loss, dynamic=False)

    def evaluate() -> Outputs:
        with torch.no_grad():
            return (loss(query, doc, problem.num_negatives, table),)

    def train() -> Outputs:
        value = loss(query, doc, problem.num_negatives, table)
        return (value, *torch.autograd.grad(value, [query, doc]))

    return Step(train if training else evaluate, wait_for, outputs)


def wait_for(tensors: Outputs) -> None:
    """Waits for all that a GPU was given, and reads the loss like any other way.

    On the CPU a step has run when it returns.
    """
    if tensors[0].is_cuda:
        torch.cuda.synchronize()
    tensors[0].item()


def outputs(tensors: Outputs) -> list[Array]:
    """A step's results in NumPy."""
    return [tensor.detach().double().cpu().numpy() for tensor in tensors]
