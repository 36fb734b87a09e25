"""Batches that are hard on floating-point numbers, and how wrong a result may be there.

One list for ``tests/loss/test_hard_cases.py``, which holds every error below its bound, and
for ``python -m benchmarks.errors``, which writes the errors down. ``docs/numerics.md`` says
where the bounds come from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from negative_cosine import sample_negatives

from tests.support import oracle
from tests.support.cases import DTYPES, Array, Batch, run_oracle
from tests.support.tensorflow_runs import run_loss

SHAPE = (37, 41, 64, 5)  # B, C, D, K

# What a bound counts of: roundings of a cosine, and of everything behind the logits.
COSINE_ROUNDINGS = 3
OTHER_ROUNDINGS = 32

Fill = Callable[[Batch, np.random.Generator], None]


@dataclass(frozen=True)
class HardCase:
    """A batch by name: its shape and dtype, its rows, its options."""

    name: str
    fill: Fill
    shape: tuple[int, int, int, int] = SHAPE
    dtype: str = "float32"
    source: str = "shuffle"
    options: Mapping[str, Any] = field(default_factory=dict)
    # With a number: the judge looks at that many documents and the rows that use them.
    judged_docs: int | None = None

    @property
    def logit_scale(self) -> float:
        """``scale / temperature``."""
        scale, temperature = (self.options.get(n, d) for n, d in DEFAULTS.items())
        return float(scale / temperature)

    def batch(self) -> Batch:
        """The embeddings, always the same."""
        batch = Batch(self.shape, self.dtype)
        self.fill(batch, np.random.default_rng(0))
        return batch

    def all_options(self, batch: Batch) -> dict[str, Any]:
        """The case's options on top of weights and a sum, which keeps rows apart."""
        options = {"reduction": "sum", **batch.only("sample_weight"), **self.options}
        if options.get("doc_ids") == "equal":
            options["doc_ids"] = np.zeros(batch.docs, np.int32)
        return options


DEFAULTS = {"scale": 20.0, "temperature": 1.0}


# --- Rows. ------------------------------------------------------------------------------


def random_rows(batch: Batch, random: np.random.Generator) -> None:
    """What Batch has: normally distributed, of lengths from 0.1 to 7 times sqrt(D)."""


def every_cosine(batch: Batch, random: np.random.Generator) -> None:
    """Cosines from 1 - 1e-7 over 0 to -1 with queries of one direction."""
    near = np.logspace(-7, 0, batch.docs // 2)  # away from 1, or from -1
    cosines = np.concatenate([1 - near, near - 1, np.full(batch.docs % 2, -1.0)])
    set_cosines(batch, random, cosines)


def cosines_near_one(batch: Batch, random: np.random.Generator) -> None:
    """Every cosine between 1 - 1e-6 and 1 - 1e-7."""
    set_cosines(batch, random, 1 - np.logspace(-7, -6, batch.docs))


def set_cosines(batch: Batch, random: np.random.Generator, cosines: Array) -> None:
    """Documents of the given cosines with queries of one direction, any lengths."""
    axis = np.ones(batch.dim) / np.sqrt(batch.dim)
    aside = random.normal(size=(batch.docs, batch.dim))
    aside -= (aside @ axis)[:, None] * axis
    aside /= np.linalg.norm(aside, axis=1, keepdims=True)
    doc = cosines[:, None] * axis + np.sqrt(1 - cosines**2)[:, None] * aside
    set_rows(batch, np.tile(axis, (batch.rows, 1)), random.permutation(doc))
    set_lengths(batch, random, 0.1, 10.0)


def identical_rows(batch: Batch, random: np.random.Generator) -> None:
    """Queries and documents that are all the same."""
    row = random.normal(size=batch.dim)
    set_rows(batch, np.tile(row, (batch.rows, 1)), np.tile(row, (batch.docs, 1)))


def positive_rows(batch: Batch, random: np.random.Generator) -> None:
    """No element below zero, as after a ReLU: sums of one sign, and cosines near 0.6."""
    set_rows(batch, np.abs(batch.query), np.abs(batch.doc))


def zero_rows(batch: Batch, random: np.random.Generator) -> None:
    """A query and three documents of zeros."""
    batch.query[1] = batch.doc[3] = batch.doc[4] = batch.doc[-1] = 0


def lengths(shortest: float, longest: float) -> Fill:
    """Rows of lengths between the two, evenly by their logarithms."""
    return lambda batch, random: set_lengths(batch, random, shortest, longest)


def subnormal_rows(batch: Batch, random: np.random.Generator) -> None:
    """Subnormal numbers: alone in every third row, beside others in every third."""
    tiny = float(ml_dtypes.finfo(DTYPES[batch.dtype]).smallest_normal)
    for rows in (batch.query, batch.doc):
        values = random.uniform(-tiny, tiny, rows.shape)
        rows[::3] = values[::3].astype(rows.dtype)
        rows[1::3, ::2] = values[1::3, ::2].astype(rows.dtype)


def elements(smallest: float, largest: float) -> Fill:
    """Elements of every magnitude between the two, in one row; both signs."""

    def fill(batch: Batch, random: np.random.Generator) -> None:
        def draw(rows: int) -> Array:
            powers = random.uniform(np.log(smallest), np.log(largest), (rows, batch.dim))
            powers[:, 0], powers[:, 1] = np.log(smallest), np.log(largest)
            return np.exp(powers) * random.choice([-1, 1], powers.shape)

        set_rows(batch, draw(batch.rows), draw(batch.docs))

    return fill


def set_rows(batch: Batch, query: Array, doc: Array) -> None:
    """Rounds rows to the batch's dtype."""
    batch.query = query.astype(DTYPES[batch.dtype])
    batch.doc = doc.astype(DTYPES[batch.dtype])


def set_lengths(
    batch: Batch, random: np.random.Generator, shortest: float, longest: float
) -> None:
    """Scales rows to lengths between the two, evenly by their logarithms."""

    def scaled(rows: Array) -> Array:
        powers = random.uniform(np.log(shortest), np.log(longest), (len(rows), 1))
        powers[0], powers[-1] = np.log(shortest), np.log(longest)
        return oracle.unit_rows(rows.astype(np.float64))[0] * np.exp(powers)

    set_rows(batch, scaled(batch.query), scaled(batch.doc))


# --- The list. --------------------------------------------------------------------------

COLD = {"temperature": float(np.float32(0.001))}
HOT = {"scale": 1000.0}
MEAN = {"reduction": "mean"}

HARD_CASES = [
    HardCase("random rows", random_rows),
    HardCase("random rows, float64", random_rows, dtype="float64"),
    HardCase("random rows, float16", random_rows, dtype="float16"),
    HardCase("random rows, bfloat16", random_rows, dtype="bfloat16"),
    HardCase("cosines 1-1e-7 to -1", every_cosine),
    HardCase("cosines 1-1e-7 to -1, float64", every_cosine, dtype="float64"),
    HardCase("cosines 1-1e-7 to -1, float16", every_cosine, dtype="float16"),
    HardCase("cosines 1-1e-7 to -1, bfloat16", every_cosine, dtype="bfloat16"),
    HardCase("cosines 1-1e-7 to -1, scale 1000", every_cosine, options=HOT),
    HardCase("cosines 1-1e-7 to -1, temperature 0.001", every_cosine, options=COLD),
    HardCase("cosines 1-1e-7 to -1, both", every_cosine, options=HOT | COLD),
    HardCase(
        "cosines 1-1e-7 to -1, both, float64",
        every_cosine,
        options=HOT | COLD,
        dtype="float64",
    ),
    HardCase("cosines near 1", cosines_near_one),
    HardCase("cosines near 1, scale 1000", cosines_near_one, options=HOT),
    HardCase("cosines near 1, both", cosines_near_one, options=HOT | COLD),
    HardCase("norms 1e-10 to 1e18", lengths(1e-10, 1e18)),
    HardCase("norms 1e-10 to 1e18, float64", lengths(1e-10, 1e18), dtype="float64"),
    HardCase("norms 1e-10 to 1e18, bfloat16", lengths(1e-10, 1e18), dtype="bfloat16"),
    HardCase("norms 1e-3 to 1e5, float16", lengths(1e-3, 1e5), dtype="float16"),
    HardCase("subnormal numbers", subnormal_rows),
    HardCase("subnormal numbers, float64", subnormal_rows, dtype="float64"),
    HardCase("subnormal numbers, float16", subnormal_rows, dtype="float16", options=MEAN),
    HardCase("subnormal numbers, bfloat16", subnormal_rows, dtype="bfloat16"),
    HardCase("elements 6e-8 to 65504, float16", elements(6e-8, 65504), dtype="float16"),
    HardCase(
        # A longer row's gradient is subnormal, and TensorFlow flushes the reference's.
        "elements 1e-40 to 1e30, bfloat16",
        elements(1e-40, 1e30),
        dtype="bfloat16",
    ),
    HardCase("zero rows", zero_rows),
    HardCase("identical rows", identical_rows),
    HardCase("identical rows, scale 1000", identical_rows, options=HOT),
    HardCase("all candidates dropped", random_rows, options={"doc_ids": "equal"}),
    HardCase("K = 10,000", random_rows, (3, 50, 33, 10_000)),
    HardCase("K = 10,000, ring", random_rows, (3, 10_001, 33, 10_000), source="ring"),
    HardCase("K = 10,000, all", random_rows, (3, 10_001, 33, 10_000), source="all"),
    HardCase("D = 4096", random_rows, (37, 41, 4096, 5)),
    HardCase("D = 4095, float16", random_rows, (37, 41, 4095, 5), dtype="float16"),
    HardCase("D = 4096, no element below 0", positive_rows, (37, 41, 4096, 5)),
    *(
        HardCase(
            f"D = 256, no element below 0, {sampler}, scale 1000",
            positive_rows,
            (37, 41, 256, 5),
            source=sampler,
            options=HOT,
        )
        for sampler in ("ring", "all")
    ),
    HardCase("B = 100,000", random_rows, (100_000, 100_100, 32, 20), judged_docs=20),
]

BY_NAME = {case.name: case for case in HARD_CASES}


# --- The judge, and the errors. ---------------------------------------------------------


class Judged(NamedTuple):
    """The judge's results for some rows and documents, or for all of them."""

    rows: Array
    docs: Array
    result: oracle.Result  # of `rows` and `docs`, in their order
    is_whole: bool


def judge(case: HardCase, batch: Batch) -> Judged:
    """The oracle on the whole batch, or on what a sample of documents depends on."""
    options = case.all_options(batch)
    if case.judged_docs is None:
        result = run_oracle(batch, case.source, options)
        return Judged(np.arange(batch.rows), np.arange(batch.docs), result, True)
    docs = np.random.default_rng(0).choice(batch.docs, case.judged_docs, replace=False)
    table = batch.indices
    if case.source != "indices":
        sizes = (batch.rows, batch.docs, batch.k)
        table = sample_negatives(*sizes, case.source, batch.seed).numpy()
    return judge_part(batch, table, docs, options)


def judge_part(batch: Batch, table: Array, docs: Array, options: dict[str, Any]) -> Judged:
    """The oracle on the rows that use ``docs``, as a batch of their own.

    Their losses and gradients are the whole batch's, and so are the gradients of
    ``docs``: no other row uses them.
    """
    drew = np.flatnonzero(np.isin(table, docs).any(axis=1))
    rows = np.union1d(drew, docs[docs < batch.rows])
    met = np.concatenate([rows, np.setdiff1d(np.append(table[rows], docs), rows)])
    place = np.full(batch.docs, -1)
    place[met] = np.arange(len(met))
    result = oracle.negative_cosine_loss(
        batch.query[rows],
        batch.doc[met],
        place[table[rows]],
        **{**options, "sample_weight": options["sample_weight"][rows]},
    )
    of_docs = result.gradient_terms | {"doc": result.gradient_terms["doc"][place[docs]]}
    result = result._replace(
        doc_gradient=result.doc_gradient[place[docs]], gradient_terms=of_docs
    )
    return Judged(rows, docs, result, False)


def errors(case: HardCase, implementation: str, mode: str = "eager") -> dict[str, float]:
    """The largest relative error of the loss and of each gradient, infinite for NaN.

    A row's loss is compared with itself; a row's gradient, as a vector, with the lengths
    of the terms that it is a sum of. What underflows counts as the smallest normal number.
    """
    batch = case.batch()
    judged = judge(case, batch)
    results = run_loss(batch, case.source, case.all_options(batch), implementation, mode)
    return compare(case, batch, judged, results)


def compare(
    case: HardCase, batch: Batch, judged: Judged, results: dict[str, Array]
) -> dict[str, float]:
    """The errors of results that are there already."""
    exact, rows, docs = judged.result, judged.rows, judged.docs
    tiny = float(np.finfo(batch.real).smallest_normal) * batch.k  # of e^z, added up
    found = {"loss": relative(results["row_loss"][rows], exact.row_loss, tiny)}
    for name, matrix, places in (("query", batch.query, rows), ("doc", batch.doc, docs)):
        _, inverse_norms = oracle.unit_rows(matrix[places].astype(np.float64))
        found[name] = row_error(
            results[f"{name}_gradient"][places],
            getattr(exact, f"{name}_gradient"),
            exact.gradient_terms[name] + case.logit_scale * inverse_norms * tiny,
        )
    if not judged.is_whole:
        return found
    for name in ("scale", "temperature"):
        gradient = getattr(exact, f"{name}_gradient")
        size = exact.gradient_terms[name] + tiny * batch.rows
        found[name] = relative(results[f"{name}_gradient"], gradient, size, of_size=True)
    found["sample_weight"] = relative(
        results["sample_weight_gradient"], exact.sample_weight_gradient, tiny
    )
    return found


def relative(found: Any, exact: Any, size: Any, of_size: bool = False) -> float:
    """The largest error relative to an element and ``size``, or to ``size`` alone."""
    difference = np.abs(np.asarray(found, np.float64) - exact)
    ratios = difference / (size if of_size else np.abs(exact) + size)
    return float(np.nan_to_num(ratios, nan=np.inf).max(initial=0.0))


def row_error(found: Array, exact: Array, sizes: Array) -> float:
    """The largest length of a row's error, relative to its size.

    What is beyond the largest number of ``found``'s dtype counts as that number.
    """
    limits = ml_dtypes.finfo(found.dtype)
    largest, smallest = float(limits.max), float(limits.smallest_normal)
    inside = np.clip(found.astype(np.float64), -largest, largest)
    difference = np.linalg.norm(inside - np.clip(exact, -largest, largest), axis=1)
    sizes = sizes + smallest * np.sqrt(found.shape[1])
    return relative(difference, 0.0, sizes, of_size=True)


def bounds(case: HardCase) -> dict[str, float]:
    """What each error may be: see docs/numerics.md."""
    unit = 2.0**-53 if case.dtype == "float64" else 2.0**-24
    logits = 2 * COSINE_ROUNDINGS * unit * case.logit_scale
    loss = OTHER_ROUNDINGS * unit + np.expm1(logits)
    gradient = 2 * (loss + np.sqrt(case.shape[-1]) * unit)
    stored = {"float16": 2.0**-11, "bfloat16": 2.0**-8}.get(case.dtype, 0.0)
    return {
        "loss": loss,
        "query": gradient + stored,
        "doc": gradient + stored,
        "scale": gradient,
        "temperature": gradient,
        "sample_weight": loss,
    }
