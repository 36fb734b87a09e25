"""The result files of benchmarks/gpu_evidence.py as the documents' tables."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.gpu import gpu_model
from benchmarks.gpu.gpu_model import DEVICES
from benchmarks.report import digits, or_dash, times
from benchmarks.steps import PASSED

Record = Mapping[Any, Any]
Table = tuple[list[str], list[list[str]]]

RESULTS = Path(__file__).parent.parent / "results"
USUAL_SIZE = {"batch_size": 8192, "dim": 128, "statistics": True}


# --- Measured beside predicted ----------------------------------------------------------


@functools.cache
def measured_times() -> pd.DataFrame:
    """The kernels' times by sizes, in microseconds; empty where nothing was measured.

    As a graph replays a step whose inputs are where the step before has left them.
    """
    path = RESULTS / "gpu.csv"
    if not path.is_file():
        return pd.DataFrame(columns=["device"])
    results = pd.read_csv(path)
    usual = (results["launch"] == "graph") & (results["cache"] == "warm")
    return results[usual & results["statistics"]]


def measured_devices() -> list[str]:
    """Those of DEVICES that have results."""
    names = {gpu_model.find_device(name) for name in measured_times()["device"]}
    return [key for key, device in DEVICES.items() if device in names]


def beside_measured(
    columns: Sequence[str],
    cells: Callable[[Record], list[str]],
    source_and_mode: Callable[[Record], tuple[str, str]],
) -> Callable[[pd.DataFrame], Table]:
    """A view of predictions, with a column for each device that has results."""

    def view(predictions: pd.DataFrame) -> Table:
        devices = measured_devices()
        more = [f"{DEVICES[key].name} measured, µs" for key in devices]
        lines = []
        for row in predictions.to_dict("records"):
            found = (measured(key, row, *source_and_mode(row)) for key in devices)
            lines.append([*cells(row), *(or_dash(time, ".0f") for time in found)])
        return [*columns, *more], lines

    return view


def measured(key: str, prediction: Record, source: str, mode: str) -> float:
    """What a step took on a device, NaN where it was not measured."""
    rows, count, dim = map(int, prediction["size"].split("x"))
    is_rounded = prediction["dtype"] == "float32" and source in ("ring", "all")
    wanted = {
        "source": source,
        "dtype": "tf32" if is_rounded else prediction["dtype"],
        "mode": mode,
        "batch_size": rows,
        "num_negatives": count,
        "dim": dim,
    }
    results = measured_times()
    for column, value in wanted.items():
        results = results[results[column] == value]
    here = results["device"].map(gpu_model.find_device) == DEVICES[key]
    return float(results.loc[here, "median_us"].median())


# --- The files themselves ---------------------------------------------------------------


def kernels(results: pd.DataFrame) -> Table:
    """Each sampler and type at one size: by graph and plainly, from the caches and not."""
    columns = ["candidates", "type", "mode", "K", "graph, µs", "plain launches, µs"]
    columns += ["graph, flushed caches, µs"]
    for column, value in USUAL_SIZE.items():
        results = results[results[column] == value]
    few = results[(results["num_negatives"] == 50) | (results["source"] == "all")]
    lines = []
    for key, rows in few.groupby(["source", "dtype", "mode", "num_negatives"], sort=False):
        medians = rows.set_index(["launch", "cache"])["median_us"]
        variants = (("graph", "warm"), ("plain", "warm"), ("graph", "flushed"))
        cells = [digits(medians.get(each, float("nan"))) for each in variants]
        lines.append([*map(str, key), *cells])
    return columns, lines


def peers(results: pd.DataFrame) -> Table:
    """Each implementation at each size, and how many times as long as this package's."""
    columns = ["B x K x D", "type", "mode", "implementation", "plain launches, µs", "ratio"]
    columns += ["graph, µs", "ratio", "peak, MB"]
    keys = ["batch_size", "num_negatives", "dim", "dtype", "mode", "label"]
    lines = []
    for key, rows in results.groupby(keys, sort=False):
        size, (dtype, mode, label) = " x ".join(map(str, key[:3])), map(str, key[3:])
        cells = [
            cell for launch in ("plain", "graph") for cell in time_and_ratio(rows, launch)
        ]
        peak = or_dash(rows["peak_bytes"].iloc[0] / 1e6, ".1f")
        lines.append([size, dtype, mode, label, *cells, peak])
    return columns, lines


def time_and_ratio(rows: pd.DataFrame, launch: str) -> Iterator[str]:
    """An implementation's time by one way to launch it."""
    found = rows[rows["launch"] == launch].to_dict("records")
    for column, layout in (("median_us", digits), ("ratio", times)):
        yield layout(found[0][column] if found else float("nan"))


def profiles(results: pd.DataFrame) -> Table:
    """What bounds each kernel, as ncu counts it."""
    columns = ["family", "kernel", "µs", "tensor pipe", "issue slots", "L2", "memory"]
    columns += ["occupancy", "waits for"]
    lines = [
        [
            row["family"],
            str(row["kernel"]).partition("<")[0],
            digits(row["duration_us"]),
            *(
                or_dash(row[f"{name}_percent"], ".0f", "%")
                for name in ("tensor_pipe", "issue_slots", "l2", "memory", "occupancy")
            ),
            str(row["stall_1"]),
        ]
        for row in results.to_dict("records")
    ]
    return columns, lines


def checks(results: Any) -> Table:
    """What was tried, and how it ended."""
    lines = []
    for step in results["steps"]:
        for part in step["parts"]:
            lines.append([step["step"], part["name"], part["outcome"], summary_of(part)])
        if not step["parts"]:
            lines.append([step["step"], "", step["outcome"], step["reason"]])
    correct = ("device", "vectors", "suite", "sanitizer")
    return ["step", "part", "outcome", "found"], [
        line for line in lines if line[0] in correct
    ]


def steps(results: Any) -> Table:
    """How each step ended, and how many of its parts passed."""
    lines = []
    for step in results["steps"]:
        passed = sum(part["outcome"] == PASSED for part in step["parts"])
        parts = f"{passed} of {len(step['parts'])}" if step["parts"] else "-"
        lines.append([step["step"], step["outcome"], parts, f"{step['seconds']:.0f}"])
    return ["step", "outcome", "parts passed", "seconds"], lines


def summary_of(part: Record) -> str:
    """A part's reason, or its figures in a cell."""
    facts = {name: value for name, value in part["facts"].items() if name != "seconds"}
    if part["reason"] or not facts:
        return str(part["reason"]).splitlines()[0] if part["reason"] else ""
    return ", ".join(f"{name} {short(value)}" for name, value in facts.items() if value)


def short(value: Any) -> str:
    """A figure in three digits, anything else as it is."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
