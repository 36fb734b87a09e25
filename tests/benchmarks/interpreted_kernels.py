"""Compares the kernels of benchmarks/triton_softmax.py with plain PyTorch, on the CPU.

    TRITON_INTERPRET=1 python -m tests.benchmarks.interpreted_kernels 9x3x768

Triton decides when it is imported whether it compiles kernels or interprets them: so this
is a process of its own, that tests/benchmarks/test_rivals.py starts.
"""

from __future__ import annotations

import sys

import torch

from benchmarks.gpu.gpu_model import Size, parse_size
from benchmarks.torch_ways import sampled_loss
from benchmarks.triton_softmax import sampled_softmax_loss


def compare(size: Size) -> None:
    """Loss and gradients in float32, against float64."""
    rows, negatives = size.batch_size, size.num_negatives
    generator = torch.Generator().manual_seed(0)
    exact = torch.randn(2, rows, size.dim, generator=generator, dtype=torch.float64)
    # Documents are drawn by several queries, and twice by one: their gradients meet.
    table = torch.randint(rows, (rows, negatives), generator=generator)
    query, doc = inputs = [(3 * each).requires_grad_() for each in exact]
    expected = sampled_loss(query, doc, negatives, table)
    query, doc = single = [each.detach().float().requires_grad_() for each in inputs]
    loss = sampled_softmax_loss(query, doc, table.int())
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)
    # Twice the loss has twice the gradients: what comes from above is not forgotten.
    gradients = torch.autograd.grad(2 * loss, single)
    references = torch.autograd.grad(2 * expected, inputs)
    for mine, reference in zip(gradients, references, strict=True):
        allowed = 1e-5 * float(reference.abs().max())
        torch.testing.assert_close(mine.double(), reference, rtol=0, atol=allowed)


if __name__ == "__main__":
    compare(parse_size(sys.argv[1]))
