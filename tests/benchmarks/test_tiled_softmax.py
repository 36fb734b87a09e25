"""The benchmark's tiled in-batch softmax is the untiled one, without its B x B logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip(
    "torch", reason="torch is optional: pip install -e .[bench]", exc_type=ImportError
)

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from benchmarks.problem import SCALE  # noqa: E402
from benchmarks.tiled_softmax import tiled_loss  # noqa: E402

Tensor = Any  # PyTorch is not installed where the types are checked
Loss = Callable[[Tensor, Tensor], Tensor]

ROWS, DIM = 23, 7
# One tile that is larger, one that fits, whole ones with a rest, a row each.
TILES = [64, 23, 8, 1]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads would wait for each other longer than these products take."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def untiled_loss(query: Tensor, doc: Tensor) -> Tensor:
    """All logits at once."""
    query, doc = (torch.nn.functional.normalize(rows, dim=1) for rows in (query, doc))
    logits = query @ doc.T * SCALE
    return torch.nn.functional.cross_entropy(logits, torch.arange(len(query)))


def random_rows(dtype: Any, rows: int = ROWS, dim: int = DIM) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query, doc = torch.randn(2, rows, dim, generator=generator).to(dtype)
    return query.requires_grad_(), doc.requires_grad_()


@pytest.mark.parametrize("tile", TILES)
def test_tiles_give_the_untiled_loss_and_gradients(tile: int) -> None:
    query, doc = random_rows(torch.float64)
    tiled, untiled = tiled_loss(query, doc, tile), untiled_loss(query, doc)
    torch.testing.assert_close(tiled, untiled)
    expected = torch.autograd.grad(untiled, [query, doc])
    # Twice the loss has twice the gradients: what comes from above is not forgotten.
    actual = torch.autograd.grad(2 * tiled, [query, doc])
    for mine, reference in zip(actual, expected, strict=True):
        torch.testing.assert_close(mine, 2 * reference)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bit_rows_are_summed_over_many_tiles_in_float32(dtype: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    query, doc = torch.randn(2, 128, DIM, generator=generator)
    # Documents that have much in common: their weighted sum is far larger than what is
    # left of it when the positive is taken away.
    query, doc = (rows.to(dtype).requires_grad_() for rows in (query, 1 + 0.3 * doc))
    loss = tiled_loss(query, doc, tile=1)
    assert loss.dtype == torch.float32
    exact = [each.detach().double().requires_grad_() for each in (query, doc)]
    expected = untiled_loss(*exact)
    tolerance = 5 * torch.finfo(dtype).eps
    torch.testing.assert_close(loss.double(), expected, rtol=tolerance, atol=0)
    gradients = torch.autograd.grad(loss, [query, doc])
    references = torch.autograd.grad(expected, exact)
    for mine, reference in zip(gradients, references, strict=True):
        assert mine.dtype == dtype
        allowed = tolerance * reference.abs().max()
        torch.testing.assert_close(mine.double(), reference, rtol=0, atol=allowed)


class LargestTensor(TorchDispatchMode):
    """Notes the most numbers that a tensor has which an operation gives."""

    numbers = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operation(*args, **(kwargs or {}))
        for each in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(each, torch.Tensor):
                self.numbers = max(self.numbers, each.numel())
        return result


def largest_tensor(loss: Loss, rows: int, dim: int) -> int:
    """The size of the largest tensor of a training step."""
    inputs = random_rows(torch.float32, rows, dim)
    with LargestTensor() as largest:
        torch.autograd.grad(loss(*inputs), inputs)
    return largest.numbers


def test_no_tensor_of_a_training_step_is_larger_than_a_tile() -> None:
    assert largest_tensor(lambda query, doc: tiled_loss(query, doc, 16), 64, 2) == 16**2


def test_the_largest_tensor_of_an_untiled_step_is_that_of_all_logits() -> None:
    assert largest_tensor(untiled_loss, 64, 2) == 64**2
