"""Draws how time and memory grow with B, K or D, from the CSVs of benchmarks/bench.py.

Each CSV is a sweep: one of batch_size, num_negatives and dim differs between its rows.

    python -m benchmarks.bench --case batch --output batch.csv
    python -m benchmarks.plot batch.csv --output pictures
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd

from benchmarks.gpu.gpu_model import MODES
from benchmarks.ways import WAYS, Way

AXES = {
    "batch_size": "B, rows of the batch",
    "num_negatives": "K, candidates of a query",
    "dim": "D, numbers of a row",
}
# Linux counts a process's memory to some hundred kilobytes: less is drawn as this.
LEAST_BYTES = 1e5


def sweep_column(sweep: pd.DataFrame, path: Path) -> str:
    """What differs between the rows of a sweep.

    Raises:
        ValueError: nothing does, or more than one thing.
    """
    varied = [name for name in (*AXES, "dtype") if sweep[name].nunique() > 1]
    if len(varied) != 1 or varied[0] not in AXES:
        raise ValueError(
            f"{path} is no sweep: its rows differ in {varied or 'no size'}, allowed is "
            f"exactly one of {list(AXES)}"
        )
    return varied[0]


def style(name: str) -> dict[str, Any]:
    """How a way is drawn, the same in every picture; this package's own stand out."""
    way: Way = WAYS[name]
    maps = [matplotlib.colormaps[name] for name in ("tab20", "tab20b")]
    colors = [color for each in maps for color in each.colors]  # type: ignore[attr-defined]
    return {
        "label": way.label,
        "color": colors[list(WAYS).index(name)],
        "linewidth": 2.5 if name.startswith("fused") else 1.2,
        "linestyle": "--" if way.compiled else ":" if way.reads_alone else "-",
        "marker": "o",
        "markersize": 3,
    }


def other_sizes(sweep: pd.DataFrame, column: str) -> str:
    """What does not differ, for the title."""
    letters = {"batch_size": "B", "num_negatives": "K", "dim": "D"}
    row = sweep.iloc[0]
    fixed = [f"{letters[name]}={row[name]}" for name in AXES if name != column]
    return ", ".join([*fixed, row["dtype"], str(row["device"])])


def draw(sweep: pd.DataFrame, column: str, figures: str, unit: str, path: Path) -> None:
    """A panel a mode, both axes logarithmic, a line a way."""
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    modes = [mode for mode in MODES if (sweep["mode"] == mode).any()]
    picture, panels = plt.subplots(
        1, len(modes), figsize=(2.6 + 4.4 * len(modes), 4.6), squeeze=False, sharey=True
    )
    for mode, axes in zip(modes, panels[0], strict=True):
        for name, line in sweep[sweep["mode"] == mode].groupby("impl", sort=False):
            ordered = line.sort_values(column)
            axes.plot(ordered[column], ordered[figures], **style(str(name)))
        axes.set(xscale="log", yscale="log", xlabel=AXES[column], title=mode)
        axes.grid(alpha=0.3)
    panels[0, 0].set_ylabel(unit)
    handles, labels = panels[0, -1].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside right center", fontsize=8)
    picture.suptitle(other_sizes(sweep, column), fontsize=10)
    picture.set_layout_engine("constrained")
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(path, dpi=100)
    plt.close(picture)


def draw_sweep(path: Path, folder: Path) -> list[Path]:
    """The pictures of a CSV: its times and, where it was measured, its memory."""
    sweep = pd.read_csv(path)
    column = sweep_column(sweep, path)
    drawn = [folder / f"time_by_{column}.png"]
    draw(sweep, column, "median_ms", "milliseconds (median)", drawn[0])
    if sweep["peak_bytes"].notna().any():
        sweep["peak_mb"] = sweep["peak_bytes"].clip(lower=LEAST_BYTES) / 1e6
        drawn.append(folder / f"memory_by_{column}.png")
        draw(sweep, column, "peak_mb", "peak memory of a step, MB", drawn[1])
    return drawn


def main(words: Sequence[str] | None = None) -> None:
    """Draws every CSV that is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sweeps", nargs="+", type=Path, metavar="CSV")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    arguments = parser.parse_args(words)
    for path in arguments.sweeps:
        try:
            drawn = draw_sweep(path, arguments.output)
        except (OSError, ValueError) as error:
            parser.error(str(error))
        for picture in drawn:
            print(picture)


if __name__ == "__main__":
    main()
