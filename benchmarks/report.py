"""The rows of benchmark results as tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.cases import DEFAULT
from benchmarks.tables import print_table
from benchmarks.ways import BASELINE, WAYS

Record = Mapping[Any, Any]
Cell = Callable[[Record], str]
Names = tuple[str, ...]
Table = tuple[Sequence[str], list[list[str]]]  # the columns' names, and the cells
View = Callable[[pd.DataFrame], Table]

COLUMNS = (
    "implementation",
    "mode",
    "median, ms",
    "20%..80%, ms",
    "ratio",
    "peak, MB",
    "floor reached",
)
ROW_COLUMNS = (
    "B x K x D",
    "implementation",
    "mode",
    "rows, MB",
    "median, ms",
    "GB/s",
    "floor reached",
)
SHORT_COLUMNS = ("implementation", "ms", "memory it adds, MB")
# The README's: this package, TensorFlow's quickest, the full softmax, another framework.
SHORT = (BASELINE, "vectorised-xla", "in-batch-xla", "jax")
DTYPE_COLUMNS = ("implementation", "mode", "dtype", "median, ms", "peak, MB", "GB/s")
# What every CSV says of the machine, empty where it is not known.
MACHINE = (
    "device",
    "driver",
    "cuda",
    "processors",
    "threads",
    "cpu_kernels",
    "tensorflow",
    "tensorflow_cuda",
    "torch",
    "jax",
    "package",
)
SIZE = ["batch_size", "num_negatives", "dim", "num_docs", "dtype"]
VECTORS = {"portable": "portable", "avx2": "AVX2", "avx512": "AVX-512"}


def label(impl: str) -> str:
    """What a table calls an implementation."""
    return WAYS[impl].label if impl in WAYS else impl


def cells(row: Record) -> list[str]:
    """A row of results as the tables show it."""
    return [
        label(row["impl"]),
        row["mode"],
        digits(row["median_ms"]),
        f"{digits(row['q20_ms'])}..{digits(row['q80_ms'])}",
        times(row["ratio"]),
        or_dash(row["peak_bytes"] / 1e6, ".1f"),
        percent(row["share_of_floor"]),
    ]


def is_usual(row: Record) -> bool:
    """Whether a row belongs into the table of every way: one size for all."""
    return row["case"] == DEFAULT


def is_short(row: Record) -> bool:
    """Whether the README shows a row."""
    return is_usual(row) and row["mode"] == "train" and row["impl"] in SHORT


def short_cells(row: Record) -> list[str]:
    """A step's time and memory."""
    memory = or_dash(row["peak_bytes"] / 1e6, ".1f")
    return [label(row["impl"]), digits(row["median_ms"]), memory]


def is_bound_by_rows(row: Record) -> bool:
    """Whether a row belongs into the table of how quickly rows are read."""
    return row["impl"] in (BASELINE, "gather")


def gigabytes_a_second(row: Record) -> str:
    """How quickly a way takes the rows that it must read."""
    return digits(row["row_bytes"] / row["median_ms"] / 1e6)


def row_cells(row: Record) -> list[str]:
    """What a step reads, and how quickly."""
    return [
        f"{row['batch_size']} x {row['num_negatives']} x {row['dim']}{more_docs(row)}",
        label(row["impl"]),
        row["mode"],
        digits(row["row_bytes"] / 1e6),
        digits(row["median_ms"]),
        gigabytes_a_second(row),
        percent(row["share_of_floor"]),
    ]


def dtype_cells(row: Record) -> list[str]:
    """A way in one of several dtypes."""
    return [
        label(row["impl"]),
        row["mode"],
        row["dtype"],
        digits(row["median_ms"]),
        or_dash(row["peak_bytes"] / 1e6, ".1f"),
        gigabytes_a_second(row),
    ]


def by_size(mode: str) -> View:
    """A view of one mode: a row an implementation, its medians and ratios by size."""

    def view(results: pd.DataFrame) -> Table:
        records = results[results["mode"] == mode].to_dict("records")
        cells: dict[tuple[Names, str], str] = {
            ((label(row["impl"]),), size_name(row)): median_and_ratio(row)
            for row in records
        }
        return cross_table(["implementation"], cells)

    return view


def by_vectors(names: Mapping[str, Cell], figures: Mapping[str, Cell]) -> View:
    """A view of runs with several vectors, such as AVX2 and AVX-512, side by side.

    ``names`` are the columns that tell the rows apart, ``figures`` those that each run has
    of its own.
    """

    def view(results: pd.DataFrame) -> Table:
        cells = {
            (
                tuple(name(row) for name in names.values()),
                f"{column}, {vectors(row)}",
            ): cell(row)
            for row in results.to_dict("records")
            for column, cell in figures.items()
        }
        return cross_table([*names], cells)

    return view


def cross_table(names: list[str], cells: Mapping[tuple[Names, str], str]) -> Table:
    """A row for each of the cells' names, a column for each of their columns.

    A dash is where there is no cell.
    """
    rows, columns = (list(dict.fromkeys(part)) for part in zip(*cells, strict=True))
    lines = [[*row, *(cells.get((row, column), "-") for column in columns)] for row in rows]
    return [*names, *columns], lines


def vectors(row: Record) -> str:
    """Those that this package's kernels had, as the documents call them."""
    return VECTORS[row["cpu_kernels"]]


def complete(results: pd.DataFrame) -> pd.DataFrame:
    """The results with every column of MACHINE, in one order."""
    figures = [name for name in results.columns if name not in MACHINE]
    return results.reindex(columns=[*figures, *MACHINE])


def or_dash(value: float, layout: str, unit: str = "") -> str:
    """A figure, or a dash where there is none."""
    return "-" if pd.isna(value) else f"{value:{layout}}{unit}"


def digits(value: float) -> str:
    """Three digits, never an exponent; a dash where there is nothing."""
    return or_dash(value, ".0f" if abs(value) >= 100 else ".3g")


def with_quartiles(median: float, lower: float, upper: float) -> str:
    """A median, and in parentheses where the middle half of the rounds is."""
    return f"{digits(median)} ({digits(lower)}..{digits(upper)})"


def times(ratio: float) -> str:
    """A ratio to another way."""
    return or_dash(ratio, ".1f" if ratio >= 1 else ".2f")


def percent(share: float) -> str:
    """A share in percent, two digits of it."""
    return or_dash(100 * share, ".0f" if share >= 0.1 else ".2g", "%")


def median_and_ratio(row: Record) -> str:
    """Both in one cell."""
    return f"{digits(row['median_ms'])} ({times(row['ratio'])})"


def size_name(row: Record) -> str:
    """B, K and D in a line, and C where it is not B."""
    size = f"B={row['batch_size']}, K={row['num_negatives']}, D={row['dim']}"
    return f"{size}{more_docs(row, ', C=')}"


def more_docs(row: Record, before: str = " of ") -> str:
    """C where it is not B; the column is not in older files."""
    num_docs = row.get("num_docs", row["batch_size"])
    return "" if num_docs == row["batch_size"] else f"{before}{num_docs}"


def title(row: Record) -> str:
    """What a table shows."""
    size = f"{size_name(row)}, {row['dtype']}, {row['device']}"
    return f"{size}; ratios to {label(row['ratio_to'])}"


def show(results: pd.DataFrame) -> None:
    """Prints a table a size and dtype, with the prediction where there is one."""
    for _, table in results.groupby(["case", *SIZE], sort=False):
        columns: tuple[str, ...] = COLUMNS
        predicted = table["predicted_ms"].notna().any()
        if predicted:
            columns = (*columns, "predicted, ms")
        records = table.to_dict("records")
        lines = [cells(row) for row in records]
        if predicted:
            for line, row in zip(lines, records, strict=True):
                line.append(digits(row["predicted_ms"]))
        print_table(title(records[0]), columns, lines)
