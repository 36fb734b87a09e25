"""A sampled softmax in Triton: the kernels that one writes for this loss by hand today.

It represents the usual kernels of sampled softmaxes. A program takes a query, gathers the
rows of its candidates from a table of indices, and computes the softmax online, so that
neither the gathered rows nor the logits reach memory. The backward pass gathers and
computes the logits again, and adds each candidate's gradient to a float32 buffer by
atomics: in which order, and so in which last bits, differs from run to run.

The norms are computed in the kernels, of rows that are in registers anyway. Unit rows made
by PyTorch would be written, read again, and take a dozen launches more in a step.

The sums over D are the innermost loop. A warp has whole rows, so they take shuffles within
it and no barrier; and each lane has 32 numbers of the gathered rows at once, 4 KiB a warp.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from benchmarks.problem import SCALE

NUMBERS_OF_A_WARP = 1024


def sampled_softmax_loss(query: Tensor, doc: Tensor, table: Tensor) -> Tensor:
    """The mean loss of rows of any length, on the candidates of an int32 ``[B, K]``."""
    return SampledSoftmax.apply(query, doc, table)


class SampledSoftmax(torch.autograd.Function):
    """The loss of ``query``, of which row i belongs to row i of ``doc``."""

    @staticmethod
    def forward(context: Any, query: Tensor, doc: Tensor, table: Tensor) -> Tensor:
        """Keeps a number a row, its log-sum-exp, for the gradients."""
        log_sums, losses = query.new_empty((2, len(query)), dtype=torch.float32)
        forward_kernel[(len(query),)](
            query, doc, table, log_sums, losses, SCALE, **sizes(query, table)
        )
        context.save_for_backward(query, doc, table, log_sums)
        return losses.mean()

    @staticmethod
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None]:
        """Writes the queries' gradients, adds up the documents'."""
        query, doc, table, log_sums = context.saved_tensors
        by_query = torch.empty_like(query)
        by_doc = torch.zeros_like(doc, dtype=torch.float32)
        backward_kernel[(len(query),)](
            query,
            doc,
            table,
            log_sums,
            upstream,
            by_query,
            by_doc,
            SCALE,
            **sizes(query, table),
        )
        return by_query, by_doc.to(doc.dtype), None


def sizes(query: Tensor, table: Tensor) -> dict[str, int]:
    """What the kernels are compiled for.

    A program takes as many candidates at a time as fit into a warp: their numbers, a power
    of two for each row. A row of more numbers takes several warps.
    """
    dim = query.shape[1]
    width = triton.next_power_of_2(dim)
    return {
        "NEGATIVES": table.shape[1],
        "DIM": dim,
        "CANDIDATES": max(1, NUMBERS_OF_A_WARP // width),
        "WIDTH": width,
        "num_warps": max(1, width // NUMBERS_OF_A_WARP),
    }


@triton.jit
def load_row(
    rows: tl.tensor, row: tl.tensor, DIM: tl.constexpr, WIDTH: tl.constexpr
) -> tl.tuple:
    """A row in float32 at unit length, and what it was multiplied by for that."""
    columns = tl.arange(0, WIDTH)
    values = tl.load(rows + row * DIM + columns, mask=columns < DIM, other=0.0)
    values = values.to(tl.float32)
    inverse = inverse_norm(tl.sum(values * values, axis=0))
    return values * inverse, inverse


@triton.jit
def load_candidates(
    doc: tl.tensor,
    table: tl.tensor,
    row: tl.tensor,
    start: tl.tensor,
    NEGATIVES: tl.constexpr,
    DIM: tl.constexpr,
    CANDIDATES: tl.constexpr,
    WIDTH: tl.constexpr,
) -> tl.tuple:
    """A block of a query's candidates: which are there, where and what they are."""
    places = start + tl.arange(0, CANDIDATES)
    columns = tl.arange(0, WIDTH)
    drawn = places < NEGATIVES
    indices = tl.load(table + row * NEGATIVES + places, mask=drawn, other=0)
    offsets = indices.to(tl.int64)[:, None] * DIM + columns[None, :]
    inside = drawn[:, None] & (columns < DIM)[None, :]
    values = tl.load(doc + offsets, mask=inside, other=0.0).to(tl.float32)
    inverse = inverse_norm(tl.sum(values * values, axis=1))
    return drawn, offsets, inside, values * inverse[:, None], inverse


@triton.jit
def inverse_norm(squares: tl.tensor) -> tl.tensor:
    """As in PyTorch's ``normalize``."""
    return 1.0 / tl.maximum(tl.sqrt(squares), 1e-12)


@triton.jit
def forward_kernel(
    query: tl.tensor,
    doc: tl.tensor,
    table: tl.tensor,
    log_sums: tl.tensor,
    losses: tl.tensor,
    scale: tl.tensor,
    NEGATIVES: tl.constexpr,
    DIM: tl.constexpr,
    CANDIDATES: tl.constexpr,
    WIDTH: tl.constexpr,
) -> None:
    """A query's log-sum-exp and loss."""
    row = tl.program_id(0).to(tl.int64)
    unit_query, _inverse_query = load_row(query, row, DIM, WIDTH)
    unit_positive, _inverse_positive = load_row(doc, row, DIM, WIDTH)
    positive = scale * tl.sum(unit_query * unit_positive, axis=0)
    # An online softmax for each place of a block; they meet once, at the end.
    largest = tl.zeros([CANDIDATES], tl.float32) + positive
    total = tl.zeros([CANDIDATES], tl.float32)
    for start in range(0, NEGATIVES, CANDIDATES):
        drawn, _offsets, _inside, unit, _inverses = load_candidates(
            doc, table, row, start, NEGATIVES, DIM, CANDIDATES, WIDTH
        )
        logits = scale * tl.sum(unit * unit_query[None, :], axis=1)
        logits = tl.where(drawn, logits, float("-inf"))
        larger = tl.maximum(largest, logits)
        total = total * tl.exp(largest - larger) + tl.exp(logits - larger)
        largest = larger
    top = tl.max(largest, axis=0)
    total = tl.sum(total * tl.exp(largest - top), axis=0) + tl.exp(positive - top)
    log_sum = top + tl.log(total)
    tl.store(log_sums + row, log_sum)
    tl.store(losses + row, log_sum - positive)


@triton.jit
def backward_kernel(
    query: tl.tensor,
    doc: tl.tensor,
    table: tl.tensor,
    log_sums: tl.tensor,
    upstream: tl.tensor,
    by_query: tl.tensor,
    by_doc: tl.tensor,
    scale: tl.tensor,
    NEGATIVES: tl.constexpr,
    DIM: tl.constexpr,
    CANDIDATES: tl.constexpr,
    WIDTH: tl.constexpr,
) -> None:
    """A query's gradient, and what it adds to those of its documents.

    The gradient of a cosine c by a row of length n, at unit length u, with the other side's
    unit row v: (v - c u) / n.
    """
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, WIDTH)
    log_sum = tl.load(log_sums + row)
    share = tl.load(upstream) * scale / tl.num_programs(0)
    unit_query, inverse_query = load_row(query, row, DIM, WIDTH)
    unit_positive, inverse_positive = load_row(doc, row, DIM, WIDTH)
    cosine = tl.sum(unit_query * unit_positive, axis=0)
    weight = share * (tl.exp(scale * cosine - log_sum) - 1.0)
    change = weight * inverse_positive * (unit_query - cosine * unit_positive)
    places = by_doc + row * DIM + columns
    tl.atomic_add(places, change, mask=columns < DIM, sem="relaxed")
    sums = tl.zeros([CANDIDATES, WIDTH], tl.float32)
    for start in range(0, NEGATIVES, CANDIDATES):
        drawn, offsets, inside, unit, inverses = load_candidates(
            doc, table, row, start, NEGATIVES, DIM, CANDIDATES, WIDTH
        )
        cosines = tl.sum(unit * unit_query[None, :], axis=1)
        weights = tl.where(drawn, share * tl.exp(scale * cosines - log_sum), 0.0)
        changes = unit_query[None, :] - cosines[:, None] * unit
        changes *= (weights * inverses)[:, None]
        tl.atomic_add(by_doc + offsets, changes, mask=inside, sem="relaxed")
        sums += weights[:, None] * unit
    direction = weight * unit_positive + tl.sum(sums, axis=0)
    along = tl.sum(direction * unit_query, axis=0)
    gradient = (direction - along * unit_query) * inverse_query
    places = by_query + row * DIM + columns
    tl.store(places, gradient.to(by_query.dtype.element_ty), mask=columns < DIM)
