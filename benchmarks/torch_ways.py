"""Steps of PyTorch, eager and compiled, on the CPU.

PyTorch's threads are OpenMP's, TensorFlow's are its own: both sets live in the process and
wait while the other works.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks.problem import SCALE, Array, Problem, Step
from benchmarks.ways import Way

# Each size and pass compiles the loss anew; by default PyTorch stops at eight.
torch._dynamo.config.recompile_limit = 1024

Outputs = tuple[Tensor, ...]


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


def make_step(
    way: Way, training: bool, problem: Problem, device: str, threads: int
) -> Step:
    """A step on inputs that stay where they are."""
    torch.set_num_threads(threads)
    dtype = getattr(torch, problem.dtype)
    query, doc = (
        torch.from_numpy(rows).to(device, dtype).requires_grad_(training)
        for rows in (problem.query, problem.doc)
    )
    table = None
    if problem.candidates:
        table = torch.from_numpy(problem.candidates.table).to(device, torch.long)
    # Sizes do not change while it runs: dynamic=False lets the compiler use them.
    loss: Callable[..., Tensor] = (
        torch.compile(sampled_loss, dynamic=False) if way.compiled else sampled_loss
    )

    def evaluate() -> Outputs:
        with torch.no_grad():
            return (loss(query, doc, problem.num_negatives, table),)

    def train() -> Outputs:
        value = loss(query, doc, problem.num_negatives, table)
        return (value, *torch.autograd.grad(value, [query, doc]))

    return Step(train if training else evaluate, wait_for, outputs)


def wait_for(tensors: Outputs) -> None:
    """A step on the CPU has run when it returns; reads the loss like any other way."""
    tensors[0].item()


def outputs(tensors: Outputs) -> list[Array]:
    """A step's results in NumPy."""
    return [tensor.detach().double().numpy() for tensor in tensors]
