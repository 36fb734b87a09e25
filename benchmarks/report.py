"""The rows of benchmark results: as a table, and as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

from benchmarks.tables import print_table

COLUMNS = (
    "way",
    "pass",
    "median, ms",
    "20%..80%, ms",
    "times the fused",
    "peak, MB",
    "floor reached",
)
# What every CSV says of the machine, empty where it is not known.
MACHINE = (
    "device",
    "driver",
    "cuda",
    "threads",
    "cpu_kernels",
    "tensorflow",
    "tensorflow_cuda",
    "package",
)
SIZE = ["batch_size", "num_negatives", "dim", "dtype"]


def cells(row: Mapping[Any, Any]) -> list[str]:
    """A row of results as the tables show it."""
    return [
        row["way"],
        row["pass"],
        f"{row['median_ms']:.3g}",
        f"{row['q20_ms']:.3g}..{row['q80_ms']:.3g}",
        f"{row['times_the_fused']:.1f}",
        or_dash(row["peak_bytes"] / 1e6, ".1f"),
        or_dash(100 * row["share_of_floor"], ".2g", "%"),
    ]


def complete(results: pd.DataFrame) -> pd.DataFrame:
    """The results with every column of MACHINE, in one order."""
    figures = [name for name in results.columns if name not in MACHINE]
    return results.reindex(columns=[*figures, *MACHINE])


def or_dash(value: float, layout: str, unit: str = "") -> str:
    """A figure, or a dash where there is none."""
    return "-" if pd.isna(value) else f"{value:{layout}}{unit}"


def title(row: Mapping[Any, Any]) -> str:
    """What a table or a panel of the picture shows."""
    size = f"B={row['batch_size']}, K={row['num_negatives']}, D={row['dim']}"
    return f"{size}, {row['dtype']}, {row['device']}"


def show(results: pd.DataFrame) -> None:
    """Prints a table a size and dtype, with the prediction where there is one."""
    for _, table in results.groupby(SIZE, sort=False):
        columns: tuple[str, ...] = COLUMNS
        predicted = table["predicted_ms"].notna().any()
        if predicted:
            columns = (*columns, "predicted, ms")
        records = table.to_dict("records")
        lines = [cells(row) for row in records]
        if predicted:
            for line, row in zip(lines, records, strict=True):
                line.append(or_dash(row["predicted_ms"], ".3g"))
        print_table(title(records[0]), columns, lines)


def plot(results: pd.DataFrame, path: Path) -> None:
    """Draws the medians as bars on a log axis, a panel a size and dtype."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    tables = [table for _, table in results.groupby(SIZE, sort=False)]
    figure, panels = plt.subplots(
        len(tables), 1, figsize=(9, 1 + 4 * len(tables)), squeeze=False
    )
    for table, axes in zip(tables, panels[:, 0], strict=True):
        ways = table["way"].unique()[::-1]  # bars are drawn from below
        medians = table.pivot(index="way", columns="pass", values="median_ms")
        medians.loc[ways, ["step", "loss"]].plot.barh(ax=axes, logx=True, width=0.8)
        for bars in axes.containers:
            axes.bar_label(bars, fmt="%.3g", padding=3, fontsize=8)
        axes.margins(x=0.15)
        axes.set(
            xlabel="milliseconds (median)",
            ylabel="",
            title=title(table.to_dict("records")[0]),
        )
        axes.grid(axis="x", alpha=0.3)
        axes.legend(reverse=True)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
