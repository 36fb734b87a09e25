"""What the tests share: batches, options, tolerances, and the core on NumPy arrays.

No framework is imported here: the tests of the kernels run where there is none.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from tests.support import oracle

Array = NDArray[Any]

DTYPES: dict[str, Any] = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
    "float64": np.float64,
}

# Relative to the largest element of what is compared. The losses of 16-bit embeddings
# have float32 arithmetic; their gradients are rounded to 16 bits, and judged against what
# that rounding alone costs (see assert_gradients_close).
VALUE_TOLERANCE = {"float16": 1e-5, "bfloat16": 1e-5, "float32": 1e-5, "float64": 1e-13}
GRADIENT_TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
# What is smaller loses digits to underflow.
SMALLEST = {"float32": 1e-30, "float64": 1e-290}

# (B, C, D, K): every size of each once and more, rows longer than the batch, odd ends.
SHAPES = [
    (1, 1, 1, 1),
    (1, 2, 3, 2),
    (2, 2, 17, 31),
    (2, 5, 64, 1),
    (3, 3, 100, 2),
    (3, 7, 129, 100),
    (37, 37, 64, 31),
    (37, 41, 3, 2),
    (37, 60, 768, 1),
    (257, 257, 100, 31),
    (257, 300, 17, 100),
    (257, 257, 129, 2),
]

GRADIENT_NAMES = ("query", "doc", "scale", "temperature", "sample_weight")


class Batch:
    """Random embeddings of one shape and dtype, and every option of the loss."""

    def __init__(self, shape: tuple[int, int, int, int], dtype: str, seed: int = 0) -> None:
        self.rows, self.docs, self.dim, self.k = shape
        self.dtype = dtype
        random = np.random.default_rng(abs(hash((shape, seed))) % 2**32)
        self.query = self._embeddings(random, self.rows)
        self.doc = self._embeddings(random, self.docs)
        self.seed = (int(random.integers(2**31)), int(random.integers(2**31)))
        self.real: Any = np.float64 if dtype == "float64" else np.float32
        real = self.real
        self.options: dict[str, Any] = {
            "scale": 12.5,
            "temperature": 0.7,
            "margin": 0.15,
            "negative_weight": 3.7,
            "mask_self": False,
            "doc_ids": random.integers(0, max(self.docs // 2, 1), self.docs),
            "query_ids": random.integers(0, max(self.rows // 2, 1), self.rows).astype(
                np.int32
            ),
            "doc_log_q": np.log(random.uniform(0.01, 1, self.docs)).astype(real),
            "sample_weight": random.uniform(0, 2, self.rows).astype(real),
            "normalize_over": "batch",
            "reduction": "sum",
        }
        self.indices = random.integers(0, self.docs, (self.rows, self.k))

    def _embeddings(self, random: np.random.Generator, rows: int) -> Array:
        lengths = np.exp(random.uniform(-2, 2, (rows, 1)))
        return (random.normal(size=(rows, self.dim)) * lengths).astype(DTYPES[self.dtype])

    def only(self, *names: str) -> dict[str, Any]:
        """The named options."""
        return {name: self.options[name] for name in names}


def table_of(batch: Batch, source: str) -> Array:
    """The candidates from ``source``, as the judge draws them."""
    if source == "indices":
        return batch.indices
    k = batch.docs - 1 if source == "all" else batch.k
    return oracle.sample_negatives(batch.rows, batch.docs, k, source, batch.seed)


def automatic_weight(batch: Batch, source: str) -> float:
    """The negatives' weight that "auto" stands for: what could be drawn, over K."""
    if source == "all":
        return 1.0
    return (batch.docs - (1 if source == "ring" else 0)) / batch.k


def run_oracle(batch: Batch, source: str, options: dict[str, Any]) -> oracle.Result:
    """The judge's results for candidates from ``source``: a sampler's name or "indices"."""
    options = dict(options)
    if options.get("negative_weight") == "auto":
        options["negative_weight"] = automatic_weight(batch, source)
    return oracle.negative_cosine_loss(
        batch.query.astype(np.float64),
        batch.doc.astype(np.float64),
        table_of(batch, source),
        **options,
    )


def run_on_arrays(
    core: Any, batch: Batch, source: str, options: dict[str, Any], **setting: int
) -> dict[str, Array]:
    """The same from a module of the core: the CPU's, or the CUDA core's."""
    candidates: dict[str, Any] = (
        {"negative_indices": batch.indices}
        if source == "indices"
        else {
            "num_negatives": batch.docs - 1 if source == "all" else batch.k,
            "sampler": source,
            "seed": np.array(batch.seed),
        }
    )
    fixed = dict(options)
    if fixed.get("negative_weight") == "auto":
        fixed["negative_weight"] = 0.0
    scale, temperature = fixed.pop("scale", 20.0), fixed.pop("temperature", 1.0)
    upstream = np.ones(batch.rows if fixed.get("reduction") == "none" else (), batch.real)
    results: dict[str, Array] = core.negative_cosine_loss(
        batch.query,
        batch.doc,
        logit_scale=scale / temperature,
        loss_gradient=upstream,
        **candidates,
        **fixed,
        **setting,
    )
    by_logit_scale = results["logit_scale_gradient"]
    results["scale_gradient"] = np.asarray(by_logit_scale / temperature)
    results["temperature_gradient"] = np.asarray(-by_logit_scale * scale / temperature**2)
    return results


def error(actual: Array, expected: Any, size: float = 0.0) -> float:
    """The largest difference, relative to the largest expected element or to ``size``.

    What float16 cannot hold has to be as large as that can be, of the right sign.
    """
    actual = np.asarray(actual)
    smallest = SMALLEST.get(actual.dtype.name, 0.0)
    beyond = np.abs(expected) > float(ml_dtypes.finfo(actual.dtype).max)
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert np.isfinite(actual[~beyond]).all()
    assert (np.isinf(actual) * np.sign(actual) == np.sign(expected))[beyond].all()
    scale = max(oracle.largest(expected), size, smallest)
    difference = np.where(beyond, 0.0, actual) - np.where(beyond, 0.0, expected)
    return oracle.largest(difference) / scale if scale > 0 else 0.0


def assert_values_close(
    results: dict[str, Array], expected: oracle.Result, dtype: str, slack: float = 1.0
) -> None:
    """Loss and statistics against the judge's, to ``slack`` times the tolerance."""
    tolerance = slack * VALUE_TOLERANCE[dtype]
    for name, size in (("loss", 0.0), ("row_loss", 0.0), ("positive_cosine", 1.0)):
        found = error(results[name], getattr(expected, name), size)
        assert found <= tolerance, (name, found)
    np.testing.assert_array_equal(results["num_kept"], expected.num_kept)
    # A logit within rounding of the positive's may count or not.
    gap = expected.logits - expected.positive_logit[:, None]
    rounding = 100 * tolerance
    rank = results["positive_rank"]
    assert (rank >= (gap > rounding).sum(axis=1)).all()
    assert (rank <= (gap > -rounding).sum(axis=1)).all()


def gradient_errors(results: dict[str, Array], expected: oracle.Result) -> dict[str, float]:
    """The error of every gradient; a weight's only where there are weights."""
    found = {name for name in GRADIENT_NAMES if f"{name}_gradient" in results}
    assert found >= {"query", "doc", "scale", "temperature"}
    return {
        name: error(
            results[f"{name}_gradient"],
            getattr(expected, f"{name}_gradient"),
            expected.gradient_sizes[name],
        )
        for name in GRADIENT_NAMES
        if f"{name}_gradient" in results
    }


def rounded_gradients(expected: oracle.Result, like: dict[str, Array]) -> dict[str, Array]:
    """The judge's gradients, each in the dtype that ``like`` has it in."""
    names = [f"{name}_gradient" for name in GRADIENT_NAMES if f"{name}_gradient" in like]
    with np.errstate(over="ignore"):  # what float16 cannot hold is infinite there
        return {
            name: np.asarray(getattr(expected, name)).astype(like[name].dtype)
            for name in names
        }


def assert_gradients_close(
    results: dict[str, Array], expected: oracle.Result, dtype: str, slack: float = 1.0
) -> None:
    """Every gradient against the judge's, to ``slack`` times the tolerance.

    For 16-bit embeddings the rule is FlashAttention's: an error of at most twice what is
    unavoidable, here that of the judge's own gradient once it is rounded to 16 bits.
    """
    tolerance = slack * GRADIENT_TOLERANCE["float64" if dtype == "float64" else "float32"]
    rounding = gradient_errors(rounded_gradients(expected, results), expected)
    for name, found in gradient_errors(results, expected).items():
        allowed = max(2 * rounding[name], tolerance)
        assert found <= allowed, (name, found, rounding[name])
