"""The full in-batch softmax in PyTorch, tile by tile: no `[B, B]` logits in memory.

Forward: each row's log-sum-exp, online over tiles of logits. Backward: the logits of each
tile again, and from them and the saved log-sum-exps the softmax that the gradients need.

Source: Cheng et al. (2024), "Breaking the Memory Barrier: Near Infinite Batch Size Scaling
for Contrastive Loss" (Inf-CL), arXiv:2410.17243. There a tile is the work of a Triton
kernel, here of a few operations of PyTorch.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks.problem import SCALE

# Rows and columns of a tile. An operation on its logits in float32 reads and writes 32 MiB:
# ten microseconds of a GPU's memory at 3.4 TB/s, about what PyTorch takes to start one.
# Smaller tiles would time the starts, larger ones take more memory.
TILE = 2048


def tiled_loss(query: Tensor, doc: Tensor, tile: int = TILE) -> Tensor:
    """The mean loss of unit rows, in float32 or wider."""
    query, doc = F.normalize(query, dim=1), F.normalize(doc, dim=1)
    return TiledSoftmax.apply(query, doc, tile)


class TiledSoftmax(torch.autograd.Function):
    """The loss of unit rows ``query`` and ``doc``, of which row i belongs to row i."""

    @staticmethod
    def forward(context: Any, query: Tensor, doc: Tensor, tile: int) -> Tensor:
        """Keeps a number a row, its log-sum-exp, for the gradients."""
        log_sums, positives = [], []
        for rows in tiles(query, tile):
            log_sum = torch.full_like(query[rows, 0], -math.inf, dtype=sum_dtype(query))
            for columns in tiles(doc, tile):
                logits = tile_logits(query[rows], doc[columns])
                log_sum = torch.logaddexp(log_sum, logits.logsumexp(dim=1))
                if rows == columns:
                    positives.append(logits.diagonal().clone())
            log_sums.append(log_sum)
        log_sum = torch.cat(log_sums)
        context.save_for_backward(query, doc, log_sum)
        context.tile = tile
        return (log_sum - torch.cat(positives)).mean()

    @staticmethod
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor, Tensor, None]:
        """Adds up the gradients of both sides over the tiles."""
        query, doc, log_sum = context.saved_tensors
        query_gradient, doc_gradient = (
            torch.zeros_like(each, dtype=sum_dtype(each)) for each in (query, doc)
        )
        for rows, columns in itertools.product(
            tiles(query, context.tile), tiles(doc, context.tile)
        ):
            logits = tile_logits(query[rows], doc[columns])
            weights = logits.sub_(log_sum[rows, None]).exp_()
            if rows == columns:
                weights.diagonal().sub_(1)  # the positives' share of the gradient
            weights = weights.to(query.dtype)
            query_gradient[rows] += weights @ doc[columns]
            doc_gradient[columns] += weights.T @ query[rows]
        scale = upstream * SCALE / len(query)
        gradients = (query_gradient.mul_(scale), doc_gradient.mul_(scale))
        return gradients[0].to(query.dtype), gradients[1].to(doc.dtype), None


def tiles(matrix: Tensor, tile: int) -> list[slice]:
    """The rows of a matrix, ``tile`` at a time."""
    starts = range(0, len(matrix), tile)
    return [slice(start, min(start + tile, len(matrix))) for start in starts]


def tile_logits(query: Tensor, doc: Tensor) -> Tensor:
    """Some rows' logits: a product in the rows' dtype, what follows in ``sum_dtype``."""
    return (query @ doc.T).to(sum_dtype(query)).mul_(SCALE)


def sum_dtype(rows: Tensor) -> torch.dtype:
    """What logits, sums and gradients are added up in: float32 at least."""
    return torch.promote_types(rows.dtype, torch.float32)
