"""What the tests of the benchmark's rivals share: skips, and stand-ins for kernels.

The libraries of ``benchmarks/library_losses.py`` need a GPU. Each function here has the
parameters of the one that it stands in for, and the formula that its source computes, dense
and in plain PyTorch: inf_cl 1.2.1, liger_kernel 0.8.5, cut_cross_entropy 25.1.1. It refuses
what the library refuses.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from benchmarks import limits
from benchmarks.ways import WAYS

Tensor = Any  # PyTorch is not installed where the types are checked


def import_packages(impl: str) -> None:
    """Skips a test of libraries that make test does not install."""
    for package in WAYS[impl].packages:
        import_optional(package, limits.how_to_install(WAYS[impl]))


def import_optional(package: str, how: str = "pip install -e .[bench]") -> Any:
    """A library, or a skip."""
    reason = f"{package} is optional: {how}"
    return pytest.importorskip(package, reason=reason, exc_type=ImportError)


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str) -> Tensor:
    import torch.nn.functional as F  # noqa: N812

    return F.cross_entropy(logits.float(), targets, reduction=reduction)


def cal_flash_loss(
    q: Tensor,
    k: Tensor,
    labels: Tensor | None = None,
    scale: Any = None,
    head_dim: int = 256,
) -> Tensor:
    """The rows' losses: ``inf_cl.cal_flash_loss``."""
    assert head_dim in (16, 32, 64, 128, 256)
    q = (1.0 if scale is None else scale) * q
    queries, keys = (rows.view(len(rows), -1, head_dim).float() for rows in (q, k))
    assert labels is not None
    return cross_entropy(queries.flatten(1) @ keys.flatten(1).T, labels, "none")


def liger_fused_linear_cross_entropy(
    input: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = None,
    ce_weight: Tensor | None = None,
    ignore_index: int = -100,
    lse_square_scale: float = 0.0,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    softcap: float | None = None,
    return_z_loss: bool = False,
    accum_dtype: Any = None,
    use_token_scaling: bool = False,
    return_token_accuracy: bool = False,
    return_predicted_tokens: bool = False,
    chunk_mem_const: int = 1,
) -> Tensor:
    """The mean loss: of ``liger_kernel.transformers.functional``."""
    return cross_entropy(input @ weight.T, target, reduction)


def linear_cross_entropy(
    e: Tensor,
    c: Tensor,
    targets: Tensor,
    ignore_index: int = -100,
    softcap: float | None = None,
    reduction: str = "mean",
    shift: bool = False,
    filter_eps: float | str | None = "high",
    impl: Any = "cce",
) -> Tensor:
    """The mean loss: ``cut_cross_entropy.linear_cross_entropy``."""
    assert e.element_size() == 2, "its backward pass takes 16 bits"
    return cross_entropy(e @ c.T, targets, reduction)


# By way: the module that the library's function is imported from, and its stand-in.
STAND_INS: dict[str, tuple[str, Callable[..., Tensor]]] = {
    "inf-cl-triton": ("inf_cl", cal_flash_loss),
    "liger": ("liger_kernel.transformers.functional", liger_fused_linear_cross_entropy),
    "cut-cross-entropy": ("cut_cross_entropy", linear_cross_entropy),
}


def install_stand_in(
    impl: str, monkeypatch: pytest.MonkeyPatch, wrap: Callable[..., Any] = lambda f: f
) -> None:
    """Lets a way import its stand-in, whatever is installed."""
    path, function = STAND_INS[impl]
    packages = path.split(".")
    for count in range(1, len(packages) + 1):
        name = ".".join(packages[:count])
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
    setattr(module, function.__name__, wrap(function))
