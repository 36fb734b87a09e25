"""The table and the picture of a comparison, for the terminal, the files and the pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from examples.two_tower import MEASURES

COLUMNS = (
    "model",
    "recall@1",
    "recall@10",
    "recall@100",
    "MRR",
    "MRR at equal time",
    "loss, ms a step",
    "loss, MB",
)


def add_scores_at_equal_time(scores: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Adds ``mrr_at_equal_time``, the MRR after so much time in the loss.

    It is the time that the first loss of this package needs for all its steps. Between the
    ends of two epochs the curve is a straight line. A loss that needs less time for all its
    steps has its last MRR.
    """
    own = scores.loc[scores["model"].str.startswith("this loss"), "loss_s"].dropna()
    limit = own.iloc[0] if len(own) else np.nan
    at_limit = []
    for row in scores.to_dict("records"):
        mine = (curves["model"] == row["model"]) & (curves["seed"] == row["seed"])
        curve = curves[mine]
        if not len(curve) or np.isnan(limit):
            at_limit.append(np.nan)
            continue
        spent = curve["epoch"] / curve["epoch"].max() * row["loss_s"]
        at_limit.append(float(np.interp(limit, spent, curve["mrr"])))
    return scores.assign(mrr_at_equal_time=at_limit)


def cells(name: str, rows: pd.DataFrame) -> Iterator[str]:
    """A model's row: means over its seeds, and its costs, which are the same for all."""
    costs = rows.iloc[0]
    fits = not (np.isnan(costs["loss_ms"]) and costs["loss_mb"] > 0)
    yield name
    for measure in MEASURES[:-1]:
        yield figure(rows[measure].mean(), 3)
    mrr = rows["mrr"]
    spread = f" ± {mrr.std():.3f}" if len(mrr) > 1 else ""
    yield figure(mrr.mean(), 3) + spread if fits else "does not fit"
    yield figure(rows["mrr_at_equal_time"].mean(), 3)
    yield figure(costs["loss_ms"], 2)
    yield figure(costs["loss_mb"], 1)


def figure(value: float, digits: int) -> str:
    """A number, or a dash where there is none."""
    return "-" if np.isnan(value) else f"{value:.{digits}f}"


def view(scores: pd.DataFrame) -> tuple[Sequence[str], list[list[str]]]:
    """A row for each model. The spread of several seeds' MRR is its standard deviation."""
    models = scores.groupby("model", sort=False)
    return COLUMNS, [[*cells(str(name), rows)] for name, rows in models]


def plot(curves: pd.DataFrame, path: Path, title: str) -> None:
    """Draws held-out MRR and training loss over the epochs, means over the seeds."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    drawing, (left, right) = plt.subplots(1, 2, figsize=(10, 5.5), layout="constrained")
    for name, of_model in curves.groupby("model", sort=False):
        curve = of_model.groupby("epoch", as_index=False)[["mrr", "loss"]].mean()
        left.plot(curve["epoch"], curve["mrr"], marker="o", markersize=3, label=name)
        right.plot(curve["epoch"], curve["loss"], marker="o", markersize=3)
    left.set(xlabel="epoch", ylabel="held-out MRR")
    right.set(xlabel="epoch", ylabel="training loss (of different losses)")
    left.grid(alpha=0.3)
    right.grid(alpha=0.3)
    drawing.suptitle(title)
    drawing.legend(loc="outside lower center", ncols=3)
    drawing.savefig(path, dpi=140)
    plt.close(drawing)


def write(scores: pd.DataFrame, curves: pd.DataFrame, folder: Path, title: str) -> None:
    """Prints the table and writes scores.csv, curves.csv and curves.png."""
    folder.mkdir(parents=True, exist_ok=True)
    scores = add_scores_at_equal_time(scores, curves)
    scores.to_csv(folder / "scores.csv", index=False, float_format="%.4f")
    curves.to_csv(folder / "curves.csv", index=False, float_format="%.4f")
    plot(curves, folder / "curves.png", title)
    columns, rows = view(scores)
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=number == 0)
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)
    print(f"Training curves: {folder / 'curves.png'}")
