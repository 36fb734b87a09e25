"""What rounding the softmax's weights to 16 bits costs the gradients: a simulation.

Tensor cores multiply weights with rows of 16-bit elements, so that a weight is one such
number, rounded, or the sum of two, which doubles the products. Here everything else is
exact, and the gradients are rounded to the dtype as the op does. A ratio is the error, as
the tests measure it, in times of the exact gradient's own once it is rounded; the tests
allow 2. Both passes of "all" and "ring", in seven variants:

- two: weights of two numbers;
- one: weights of one number;
- sums: the same, and the sums that the gradient needs of the weights (the positive's
  weight of a query, the projections) are made of the rounded weights;
- apart: one number, but the positive's weight of a document is left out of the products
  and added unrounded, as a query's is;
- both: sums and apart;
- scaled: apart, and the sum over a row's candidates is multiplied by the sum of their
  weights over that of the rounded ones;
- rescaled: scaled, with the projections of both and that factor.

    python -m benchmarks.weight_rounding --output benchmarks/results/weight_rounding.csv
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.report import Record
from benchmarks.tables import print_table

Array = NDArray[Any]

VARIANTS = ("two", "one", "sums", "apart", "both", "scaled", "rescaled")
DTYPES: dict[str, Any] = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
LIMIT = 2.0
TOLERANCE = 2e-5  # an error that is always allowed, of the size of a gradient's terms
LARGEST_WEIGHT = 32768.0  # of float16, see csrc/cuda/tiles/rows.cuh
FIT_NORMS = {"bfloat16": (1e-12, 1e12), "float16": (1 / 64, 16.0)}


def nonzero(numbers: Array) -> Array:
    """With 1 in the place of 0, to divide by."""
    return np.where(numbers == 0, 1.0, numbers)


def unit(rows: Array) -> Array:
    """Rows at unit length."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def near(random: np.random.Generator, rows: Array, low: float, high: float) -> Array:
    """Unit rows whose cosines with the given ones are between two numbers."""
    cosine = random.uniform(low, high, (len(rows), 1))
    noise = unit(random.normal(size=rows.shape))
    noise = unit(noise - (noise * rows).sum(axis=1, keepdims=True) * rows)
    return cosine * rows + np.sqrt(1 - cosine**2) * noise


def random_rows(random: np.random.Generator, rows: int, dim: int) -> tuple[Array, Array]:
    """Queries and documents that have nothing in common."""
    query, doc = random.normal(size=(2, rows, dim))
    return query, doc


def trained(random: np.random.Generator, rows: int, dim: int) -> tuple[Array, Array]:
    """Queries at cosines of 0.5 to 0.9 to their documents."""
    doc = unit(random.normal(size=(rows, dim)))
    return near(random, doc, 0.5, 0.9), doc


def close(random: np.random.Generator, rows: int, dim: int) -> tuple[Array, Array]:
    """Queries that nearly are their documents."""
    doc = unit(random.normal(size=(rows, dim)))
    return near(random, doc, 0.98, 0.995), doc


def clustered(
    random: np.random.Generator, rows: int, dim: int, cosine: float = 0.98
) -> tuple[Array, Array]:
    """Documents in groups of sixteen that resemble each other."""
    centres = unit(random.normal(size=(max(rows // 16, 1), dim)))
    doc = near(random, centres[random.integers(0, len(centres), rows)], cosine, cosine)
    return near(random, doc, 0.7, 0.9), doc


def duplicates(random: np.random.Generator, rows: int, dim: int) -> tuple[Array, Array]:
    """The same, nearly equal."""
    return clustered(random, rows, dim, cosine=0.9995)


def collapsed(random: np.random.Generator, rows: int, dim: int) -> tuple[Array, Array]:
    """All rows of both sides around one, as those of untrained networks often are."""
    centre = np.broadcast_to(unit(random.normal(size=(1, dim))), (rows, dim))
    return near(random, centre, 0.97, 0.99), near(random, centre, 0.97, 0.99)


def stretched(
    random: np.random.Generator, made: tuple[Array, Array]
) -> tuple[Array, Array]:
    """The same rows at very different lengths."""
    query, doc = (rows * np.exp(random.uniform(-3, 3, (len(rows), 1))) for rows in made)
    return query, doc


def lengths(random: np.random.Generator, rows: int, dim: int) -> tuple[Array, Array]:
    """Trained rows of very different lengths."""
    return stretched(random, trained(random, rows, dim))


def long_duplicates(
    random: np.random.Generator, rows: int, dim: int
) -> tuple[Array, Array]:
    """Duplicates of very different lengths."""
    return stretched(random, duplicates(random, rows, dim))


DATA: dict[str, Callable[[np.random.Generator, int, int], tuple[Array, Array]]] = {
    "random": random_rows,
    "trained": trained,
    "close": close,
    "clustered": clustered,
    "duplicates": duplicates,
    "collapsed": collapsed,
    "lengths": lengths,
    "long duplicates": long_duplicates,
}


@dataclass(frozen=True)
class Case:
    """A batch, and its loss; ``count`` is "all" or the candidates of a ring."""

    data: str
    dtype: str
    batch: int
    dim: int
    count: str
    scale: float
    seed: int = 0


@dataclass(frozen=True)
class Weights:
    """A pass's weights of rows at unit length: by query in one, by document in the other.

    The gradient of a row is ``factor`` times what they sum, less what lies along the row.
    """

    candidates: Array
    positive: Array
    rows: Array  # the exact rows that are summed
    own: Array  # unit rows of which the gradients are
    cosines: Array
    factor: Array

    def gradient(self, sums: Array, positive: Array, projection: Array) -> Array:
        """From the candidates' sum, the positive's weight and the projection."""
        own_pair = positive[:, None] * unit(self.rows)
        return (sums + own_pair - projection[:, None] * self.own) * self.factor[:, None]

    def projection(self, candidates: Array, positive: Array) -> Array:
        """Of the weighted sum on the own rows."""
        own_pair = positive * self.cosines.diagonal()
        return np.einsum("ij,ij->i", candidates, self.cosines) + own_pair

    def exact(self) -> Array:
        """The gradient without any rounding."""
        return self.gradient(
            self.candidates @ unit(self.rows),
            self.positive,
            self.projection(self.candidates, self.positive),
        )

    def size(self) -> float:
        """Of the terms that the gradient's largest element is a sum of."""
        terms = self.candidates.copy()
        np.fill_diagonal(terms, np.abs(self.positive))
        return float((terms @ np.abs(unit(self.rows)) * self.factor[:, None]).max())


def passes(case: Case) -> tuple[Weights, Weights]:
    """The forward pass's weights, and the gradient pass's."""
    random = np.random.default_rng(case.seed)
    made = DATA[case.data](random, case.batch, case.dim)
    query, doc = (rows.astype(DTYPES[case.dtype]).astype(np.float64) for rows in made)
    cosines = unit(query) @ unit(doc).T
    logits = case.scale * (cosines - cosines.diagonal()[:, None])
    exponentials = np.where(is_candidate(case), np.exp(logits), 0.0)
    totals = 1 + exponentials.sum(axis=1)
    candidates = exponentials / totals[:, None]
    positive = -(exponentials.sum(axis=1) / totals)
    by_query = case.scale / np.linalg.norm(query, axis=1)
    by_doc = case.scale / np.linalg.norm(doc, axis=1)
    return (
        Weights(candidates, positive, doc, unit(query), cosines, by_query),
        Weights(candidates.T, positive, query, unit(doc), cosines.T, by_doc),
    )


def is_candidate(case: Case) -> NDArray[np.bool_]:
    """By query and document: the next documents, as many as are drawn."""
    count = case.batch - 1 if case.count == "all" else int(case.count)
    places = np.arange(case.batch)
    distance = (places[None, :] - places[:, None]) % case.batch
    return (distance > 0) & (distance <= count)


class Rounding:
    """A pass's weights as tensor cores are given them, as weights of unit rows again.

    A weight is multiplied by its row's inverse norm. What is given in float16 is scaled so
    that a row's largest is near the end, and rows too long or short by a power of two.
    """

    def __init__(self, weights: Weights, dtype: str) -> None:
        self.dtype = DTYPES[dtype]
        norms = 1 / np.linalg.norm(weights.rows, axis=1)
        low, high = FIT_NORMS[dtype]
        fit = (norms >= low) & (norms <= high)
        self.norms = np.where(fit, norms, norms / np.exp2(np.floor(np.log2(norms))))
        given = np.abs(weights.candidates) * self.norms
        largest = np.maximum(given.max(axis=1), np.abs(weights.positive) * self.norms)
        exponent = np.floor(np.log2(nonzero(largest) / LARGEST_WEIGHT)) + 1
        scaled = dtype == "float16"
        self.scale = np.exp2(-exponent) if scaled else np.ones(len(largest))

    def once(self, numbers: Array) -> Array:
        """To the nearest of the dtype."""
        return numbers.astype(np.float32).astype(self.dtype).astype(np.float64)

    def twice(self, numbers: Array) -> Array:
        """As the sum of two."""
        leading = self.once(numbers)
        return leading + self.once(numbers - leading)

    def candidates(self, weights: Array, rounded: Callable[[Array], Array]) -> Array:
        """Of all pairs."""
        factors = self.norms * self.scale[:, None]
        return rounded(weights * factors) / factors

    def own(self, weights: Array, rounded: Callable[[Array], Array]) -> Array:
        """Of the rows' own pairs."""
        factors = self.norms * self.scale
        return rounded(weights * factors) / factors


def gradients(weights: Weights, dtype: str, of_docs: bool) -> Iterator[tuple[str, Array]]:
    """The gradient of every variant, not rounded yet."""
    rounding = Rounding(weights, dtype)
    exact, positive = weights.candidates, weights.positive
    unit_rows = unit(weights.rows)
    along = weights.projection(exact, positive)
    twice = rounding.candidates(exact, rounding.twice)
    of_twice = rounding.own(positive, rounding.twice) if of_docs else positive
    yield "two", weights.gradient(twice @ unit_rows, of_twice, along)

    once = rounding.candidates(exact, rounding.once)
    lost = (exact - once).sum(axis=1)
    sums = once @ unit_rows
    of_once = rounding.own(positive, rounding.once) if of_docs else positive
    yield "one", weights.gradient(sums, of_once, along)
    consistent = of_once if of_docs else positive + lost
    projection = weights.projection(once, consistent)
    yield "sums", weights.gradient(sums, consistent, projection)
    yield "apart", weights.gradient(sums, positive, along)
    kept = positive if of_docs else consistent
    yield "both", weights.gradient(sums, kept, weights.projection(once, kept))

    factor = exact.sum(axis=1) / nonzero(once.sum(axis=1))
    scaled = factor[:, None] * sums
    yield "scaled", weights.gradient(scaled, positive, along)
    projection = weights.projection(factor[:, None] * once, positive)
    yield "rescaled", weights.gradient(scaled, positive, projection)


def ratios(weights: Weights, dtype: str, of_docs: bool) -> dict[str, float]:
    """The variants' errors in times of the rounding's own, or of what is always allowed."""
    exact = weights.exact()

    def error(gradient: Array) -> float:
        rounded = gradient.astype(np.float32).astype(DTYPES[dtype]).astype(np.float64)
        return float(np.abs(rounded - exact).max())

    # All errors of a batch are relative to one number, the larger of the gradient's largest
    # element and of what that is a sum of, which cancels.
    size = max(float(np.abs(exact).max()), weights.size())
    unavoidable = max(error(exact), TOLERANCE / LIMIT * size)
    return {
        variant: error(gradient) / unavoidable
        for variant, gradient in gradients(weights, dtype, of_docs)
    }


def measure(case: Case) -> list[Record]:
    """A row for each variant."""
    by_query, by_doc = (
        ratios(weights, case.dtype, of_docs)
        for weights, of_docs in zip(passes(case), (False, True), strict=True)
    )
    return [
        {
            **vars(case),
            "variant": variant,
            "query": by_query[variant],
            "doc": by_doc[variant],
        }
        for variant in VARIANTS
    ]


def cases(arguments: argparse.Namespace) -> list[Case]:
    """All that were asked for; a ring has fewer candidates than documents."""
    found = itertools.starmap(
        Case,
        itertools.product(
            arguments.data,
            arguments.dtypes,
            arguments.batches,
            arguments.dims,
            arguments.counts,
            arguments.scales,
            range(arguments.seeds),
        ),
    )
    return [case for case in found if case.count == "all" or int(case.count) < case.batch]


COLUMNS = ("", "query: median", "doc", "query: largest", "doc", "above 2")


def worst(results: pd.DataFrame, keys: Sequence[str]) -> Iterator[list[str]]:
    """A line for each of these: the medians, the largest, those above 2."""
    for names, rows in results.groupby(list(keys), sort=False):
        both = rows[["query", "doc"]]
        above = int((both > LIMIT).any(axis=1).sum())
        cells = (*both.median(), *both.max())
        yield [
            " ".join(map(str, names)),
            *(f"{x:.2f}" for x in cells),
            f"{above} of {len(rows)}",
        ]


def view(results: pd.DataFrame) -> tuple[Sequence[str], list[list[str]]]:
    """What the documents show."""
    return COLUMNS, [*worst(results, ("dtype", "variant"))]


def main(words: Sequence[str] | None = None) -> None:
    """Simulates, prints and, where asked to, writes a CSV."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), default=list(DTYPES))
    parser.add_argument("--batches", nargs="+", type=int, default=[128, 512])
    parser.add_argument("--dims", nargs="+", type=int, default=[64, 128, 256, 768])
    parser.add_argument("--counts", nargs="+", default=["all", "50", "200"])
    parser.add_argument("--scales", nargs="+", type=float, default=[5.0, 20.0, 50.0, 100.0])
    parser.add_argument("--seeds", type=int, default=2, help="how many of each batch")
    parser.add_argument("--output", type=Path, help="the CSV to write")
    arguments = parser.parse_args(words)
    found = tqdm(cases(arguments), desc="cases", leave=False)
    results = pd.DataFrame([row for case in found for row in measure(case)])
    lines = worst(results, ("dtype", "data", "variant"))
    print_table("Errors in times of rounding's own", COLUMNS, lines)
    if arguments.output:
        results.to_csv(arguments.output, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
