"""How wrong the results are on hard numbers: their errors against float64, as a table.

The batches, the judge and the bounds are the tests', in ``tests/support/hard_cases.py``.

    python -m benchmarks.errors --output benchmarks/results/errors.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from benchmarks.tables import print_table

IMPLEMENTATIONS = ("native", "reference")
GRADIENTS = ("query", "doc", "scale", "temperature")

COLUMNS = (
    "batch",
    "B x C x D, K",
    "loss: bound",
    *IMPLEMENTATIONS,
    "gradients: bound",
    *IMPLEMENTATIONS,
)


def hard_cases() -> Any:
    """The tests' module, which imports TensorFlow."""
    from tests.support import hard_cases

    return hard_cases


def describe(case: Any) -> list[dict[str, Any]]:
    """A row for each implementation: the case, its errors and its bounds."""
    rows, docs, dim, count = case.shape
    bounds = hard_cases().bounds(case)
    about = {
        "case": case.name,
        "batch_size": rows,
        "num_candidates": docs,
        "dim": dim,
        "num_negatives": count,
        "dtype": case.dtype,
        "candidates": case.source,
        "logit_scale": case.logit_scale,
        "loss_bound": bounds["loss"],
        "gradient_bound": bounds["query"],
    }
    return [
        {**about, "implementation": implementation, **errors_of(case, implementation)}
        for implementation in IMPLEMENTATIONS
    ]


def errors_of(case: Any, implementation: str) -> dict[str, float]:
    """The columns of the errors: the loss's, and each gradient's."""
    errors = hard_cases().errors(case, implementation)
    return {f"{name}_error": value for name, value in errors.items()}


def table(cases: Iterable[Any]) -> pd.DataFrame:
    """The errors of the cases, in a machine's own columns at the end."""
    from benchmarks.machine import cpu_facts, version

    records = [row for case in cases for row in describe(case)]
    facts = cpu_facts(threads=2)
    about = {name: facts[name] for name in ("device", "cpu_kernels", "tensorflow")}
    return pd.DataFrame(records).assign(**about, package=version("negative-cosine"))


def by_case(results: pd.DataFrame) -> tuple[tuple[str, ...], list[list[str]]]:
    """A line for each case: its bounds, and both implementations beside them."""
    lines = []
    for _, rows in results.groupby("case", sort=False):
        records = [rows[rows["implementation"] == name].iloc[0] for name in IMPLEMENTATIONS]
        first = records[0]
        lines.append(
            [
                str(first["case"]),
                size_of(first),
                shortest(first["loss_bound"]),
                *(shortest(record["loss_error"]) for record in records),
                shortest(first["gradient_bound"]),
                *(shortest(worst_gradient(record)) for record in records),
            ]
        )
    return COLUMNS, lines


def size_of(row: Mapping[Any, Any]) -> str:
    """B, C, D and K in a cell."""
    sizes = (row[name] for name in ("batch_size", "num_candidates", "dim"))
    return f"{' x '.join(map(str, sizes))}, {row['num_negatives']}"


def worst_gradient(row: Mapping[Any, Any]) -> float:
    """The largest error of a gradient; a judge that saw a part knows some alone."""
    return float(pd.Series([row[f"{name}_error"] for name in GRADIENTS]).max())


def shortest(value: float) -> str:
    """Two digits of an error."""
    return f"{value:.1e}" if value else "0"


def main() -> None:
    """Prints the table and, with --output, writes the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    results = table(tqdm(hard_cases().HARD_CASES))
    print_table("Errors relative to float64", *by_case(results))
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        results.to_csv(arguments.output, index=False, float_format="%.3g")


if __name__ == "__main__":
    main()
