"""The full in-batch softmax by kernels of other libraries, each as its documents call it.

They are cross-entropies of a linear layer, or made for contrastive learning. Here the
layer's inputs are the unit queries, its weights the unit documents, the targets the
diagonal. A library is imported by the first call: none is needed to import this module.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from benchmarks.problem import SCALE

LARGEST_HEAD = 256  # of Inf-CL, and what it takes by default


def unit_rows_and_targets(query: Tensor, doc: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both sides at unit length, and for each query its document's place."""
    targets = torch.arange(len(query), device=query.device)
    return F.normalize(query, dim=1), F.normalize(doc, dim=1), targets


def inf_cl_loss(query: Tensor, doc: Tensor) -> Tensor:
    """Inf-CL's kernels (package inf_cl), as its ``cal_inf_loss`` calls them on one GPU.

    Source: Cheng et al. (2024), arXiv:2410.17243. Its kernels walk over a row in heads of a
    power of two: the largest that divides D.
    """
    from inf_cl import cal_flash_loss

    query, doc, targets = unit_rows_and_targets(query, doc)
    head = math.gcd(query.shape[1], LARGEST_HEAD)
    return cal_flash_loss(query, doc, targets, SCALE, head).mean()


def liger_loss(query: Tensor, doc: Tensor) -> Tensor:
    """Liger's fused linear cross-entropy (package liger_kernel).

    Source: Hsu et al. (2024), "Liger Kernel: Efficient Triton Kernels for LLM Training",
    arXiv:2410.10989.
    """
    from liger_kernel.transformers.functional import liger_fused_linear_cross_entropy

    query, doc, targets = unit_rows_and_targets(query, doc)
    return liger_fused_linear_cross_entropy(query * SCALE, doc, targets)


def cut_cross_entropy_loss(query: Tensor, doc: Tensor) -> Tensor:
    """Cut Cross-Entropy (package cut_cross_entropy), with its filter of small gradients.

    Source: Wijmans et al. (2024), "Cut Your Losses in Large-Vocabulary Language Models",
    arXiv:2411.09009.
    """
    from cut_cross_entropy import linear_cross_entropy

    query, doc, targets = unit_rows_and_targets(query, doc)
    return linear_cross_entropy(query * SCALE, doc, targets)
