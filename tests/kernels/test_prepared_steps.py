"""Steps whose arrays stay on the device: what the timings of the kernels are made of.

They are run launch by launch, or recorded once and replayed, as XLA records and replays the
custom calls. While a step is recorded it may not wait for the device.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.cases import DTYPES, Batch
from tests.support.cores import ON_CUDA, ON_EMULATOR, Core

pytestmark = ON_CUDA

SOURCES = pytest.mark.parametrize("source", ["shuffle", "ring", "all", "indices"])
HOW = pytest.mark.parametrize("how", ["plain", "graph"])
GRADIENTS = ("query_gradient", "doc_gradient", "logit_scale_gradient")


def candidates_of(batch: Batch, source: str) -> dict[str, Any]:
    if source == "indices":
        return {"negative_indices": batch.indices}
    count = batch.docs - 1 if source == "all" else batch.k
    return {"sampler": source, "num_negatives": count, "seed": np.array(batch.seed)}


def prepare(core: Core, batch: Batch, source: str, **options: Any) -> Any:
    candidates = candidates_of(batch, source)
    return core.module.prepare_step(batch.query, batch.doc, **candidates, **options)


def launched(core: Core, batch: Batch, source: str, **options: Any) -> dict[str, Any]:
    step = prepare(core, batch, source, **options)
    step.launch()
    results: dict[str, Any] = step.results()
    return results


@HOW
@SOURCES
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_prepared_step_gives_the_bits_of_a_single_one(
    core: Core, dtype: str, source: str, how: str
) -> None:
    batch = Batch((70, 75, 100, 31), dtype)
    expected = core.run(batch, source, {})
    step = prepare(core, batch, source)
    for count in (1, 3):
        step.spoil_results()
        step.launch(count, how)
        for name, values in step.results().items():
            assert values.tobytes() == expected[name].tobytes(), name


def test_results_are_those_of_the_launches_and_of_nothing_before(core: Core) -> None:
    step = prepare(core, Batch((37, 41, 20, 5), "float32"), "shuffle")
    assert np.isnan(step.results()["loss"])
    step.launch()
    first = step.results()
    step.spoil_results()
    assert np.isfinite(first["row_loss"]).all()
    assert np.isnan(step.results()["row_loss"]).all()


# Rows of 512 bytes and more take more shared memory than a kernel has without asking.
@ON_EMULATOR
@pytest.mark.parametrize("dim", [33, 256])
@pytest.mark.parametrize("dtype", DTYPES)
@SOURCES
def test_a_step_asks_the_runtime_for_its_launches_and_the_number_of_the_device(
    core: Core, source: str, dtype: str, dim: int
) -> None:
    step = prepare(core, Batch((37, 41, dim, 5), dtype), source)
    core.module.count_traffic(True)
    core.module.reset_statistics()
    step.launch()
    core.module.count_traffic(False)
    calls = core.module.api_calls()
    assert calls.pop("cudaLaunchKernelEx") == len(core.module.statistics())
    assert calls.pop("cudaGetDevice") <= 6
    assert not calls


@ON_EMULATOR
def test_another_device_is_asked_again(core: Core) -> None:
    step = prepare(core, Batch((37, 41, 256, 5), "float32"), "ring")
    core.module.set_multiprocessors(5)
    core.module.reset_statistics()
    step.launch(2)
    calls = core.module.api_calls()
    asked = ("DeviceGetAttribute", "FuncGetAttributes", "FuncSetAttribute")
    assert [calls[f"cuda{name}"] for name in asked] == [4, 1, 2]


@HOW
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_loss_alone_has_no_gradients(core: Core, reduction: str, how: str) -> None:
    batch = Batch((37, 41, 20, 5), "float32")
    step = prepare(core, batch, "shuffle", training=False, reduction=reduction)
    step.launch(1, how)
    results = step.results()
    assert not set(GRADIENTS) & set(results)
    assert results["loss"].shape == ((37,) if reduction == "none" else ())
    expected = core.run(batch, "shuffle", {"reduction": reduction})
    np.testing.assert_array_equal(results["loss"], expected["loss"])


def test_statistics_are_left_out_where_nobody_wants_them(core: Core) -> None:
    batch = Batch((37, 41, 20, 5), "float32")
    with_statistics = launched(core, batch, "ring")
    without = launched(core, batch, "ring", statistics=False)
    assert set(with_statistics) - set(without) == {"num_kept", "positive_rank"}


def test_float32_products_are_rounded_where_they_may_be(core: Core) -> None:
    batch = Batch((70, 75, 64, 20), "float32")
    exact, rounded = (
        launched(core, batch, "ring", allow_tf32=allowed)["positive_cosine"]
        for allowed in (False, True)
    )
    assert 1e-6 < abs(exact - rounded).max() < 2**-10


@HOW
@pytest.mark.parametrize("flush_bytes", [0, 4096])
def test_each_sample_has_its_time(core: Core, flush_bytes: int, how: str) -> None:
    step = prepare(core, Batch((5, 6, 8, 3), "float32"), "shuffle")
    times = step.milliseconds(samples=4, steps=2, how=how, flush_bytes=flush_bytes)
    assert len(times) == 4
    assert min(times) > 0


def test_the_memory_beside_the_inputs_is_that_of_outputs_and_work(core: Core) -> None:
    rows, docs, dim = 64, 80, 32
    batch = Batch((rows, docs, dim, 5), "float32")
    loss = prepare(core, batch, "shuffle", training=False).bytes_beside_inputs
    step = prepare(core, batch, "shuffle").bytes_beside_inputs
    gradients = 4 * dim * (rows + docs)
    direction = 4 * dim * rows
    sums = 4 * dim * docs  # of rows that are streamed, should they be
    assert gradients + direction < step - loss < gradients + direction + sums + 2048


def test_an_unknown_way_to_launch_is_refused_with_those_there_are(core: Core) -> None:
    step = prepare(core, Batch((5, 6, 8, 3), "float32"), "shuffle")
    message = "how must be 'plain' or 'graph', got 'stream'"
    with pytest.raises(ValueError, match=message):
        step.launch(1, "stream")
    with pytest.raises(ValueError, match=message):
        step.milliseconds(how="stream")


@pytest.mark.parametrize("wrong", [{"samples": 0}, {"steps": 0}, {"flush_bytes": -1}])
def test_counts_below_one_are_refused(core: Core, wrong: dict[str, int]) -> None:
    step = prepare(core, Batch((5, 6, 8, 3), "float32"), "shuffle")
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}.* must be at least"):
        step.milliseconds(**wrong)


@SOURCES
@ON_EMULATOR
def test_a_recorded_step_is_one_call_and_as_many_launches(core: Core, source: str) -> None:
    step = prepare(core, Batch((70, 75, 64, 20), "bfloat16"), source)
    counts = []
    for how in ("plain", "graph"):
        core.module.reset_statistics()
        step.launch(1, how)
        counts.append(len(core.module.statistics()))
    assert counts[0] == counts[1] >= 3
