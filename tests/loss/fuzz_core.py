"""Arrays of every kind for the core's Python module; run by test_fuzz.py, by itself.

A call gives the bits that it gives for plain copies of its arrays, or a ``ValueError`` or
``TypeError`` that names the argument. Memory that is not the array's must not be read:
so it runs in a process of its own.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import strategies as st
from negative_cosine import _core, _probes

from tests.loss.strategies import (
    INDEX_DTYPES,
    PROFILES,
    SEEDS,
    fuzz,
    id_vectors,
    integers_of,
)
from tests.support.cases import Array

# --- The same values in another memory. ------------------------------------------------


def strided(array: Array) -> Array:
    wide = np.repeat(array[..., np.newaxis], 2, axis=-1)
    return wide[..., 0]


def reversed_twice(array: Array) -> Array:
    return np.ascontiguousarray(array[::-1])[::-1]


def misaligned(array: Array) -> Array:
    memory = np.zeros(array.nbytes + 1, np.uint8)
    view = memory[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def big_endian(array: Array) -> Array:
    return (
        array
        if array.dtype == ml_dtypes.bfloat16
        else array.astype(array.dtype.newbyteorder(">"))
    )


def read_only(array: Array) -> Array:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def zero_stride(array: Array) -> Array:
    """One row, as many times."""
    return np.broadcast_to(array[:1], array.shape)


class Subclass(np.ndarray[Any, Any]):
    """An array that answers to another type."""


LAYOUTS: list[Callable[[Array], Array]] = [
    strided,
    reversed_twice,
    misaligned,
    big_endian,
    read_only,
    zero_stride,
    np.asfortranarray,
    lambda array: array.view(Subclass),
    lambda array: np.require(array, requirements=["C", "A", "O"]),
]

# --- Other values, which may be wrong. -------------------------------------------------

HUGE = [2**31 - 1, 2**31, 2**32, 2**33 + 1, 2**59]


def broadcast(*shape: int) -> Callable[[Array], Array]:
    """More elements than there is memory for, all of them the first."""
    return lambda array: np.broadcast_to(array.reshape(-1)[:1], shape)


WRONG: list[Callable[[Array], Any]] = [
    lambda array: None,
    lambda array: array.tolist(),
    lambda array: "text",
    lambda array: array.astype(object),
    lambda array: array.astype(np.longdouble),
    lambda array: array.astype(complex),
    lambda array: array.astype(bool),
    lambda array: array.astype(np.uint8),
    lambda array: array.astype(np.uint64),
    lambda array: np.full(array.shape, b"1"),
    lambda array: np.zeros(array.shape, [("a", "f4"), ("b", "i8")]),
    lambda array: np.zeros(array.shape, "datetime64[s]"),
    lambda array: array.reshape(-1)[:1].reshape(()),
    lambda array: array[:0],
    lambda array: array[..., :0],
    lambda array: array[np.newaxis],
    lambda array: array[..., np.newaxis],
    lambda array: np.concatenate([array, array]),
    lambda array: array.reshape(-1),
    lambda array: np.zeros((0, 2**40), array.dtype),
    lambda array: np.zeros((2**40, 0), array.dtype),
    *[broadcast(size) for size in HUGE],
    *[broadcast(size, 1) for size in HUGE],
    *[broadcast(3, size) for size in HUGE[:-1]],
]


@dataclass
class CoreCall:
    """Valid arguments, and what is done to some of the arrays among them."""

    arguments: dict[str, Any]
    changes: dict[str, Callable[[Array], Any]]

    def changed(self) -> dict[str, Any]:
        """The arguments with other arrays."""
        made = {name: make(self.arguments[name]) for name, make in self.changes.items()}
        return {**self.arguments, **made}


@st.composite
def core_calls(
    draw: st.DrawFn, changes: list[Callable[[Array], Any]], least_rows: int
) -> CoreCall:
    """A call of ``negative_cosine_loss`` with all of its arrays."""
    rows, extra = draw(st.integers(least_rows, 5)), draw(st.integers(1, 3))
    docs, dim, k = rows + extra, draw(st.integers(1, 19)), draw(st.integers(1, 17))
    dtype = draw(st.sampled_from([np.float16, ml_dtypes.bfloat16, np.float32, np.float64]))
    real = np.float64 if dtype == np.float64 else np.float32
    random = np.random.default_rng(draw(st.integers(0, 99)))
    reduction = draw(st.sampled_from(["mean", "sum", "none"]))
    arguments: dict[str, Any] = {
        "query": random.normal(size=(rows, dim)).astype(dtype),
        "doc": random.normal(size=(docs, dim)).astype(dtype),
        "doc_ids": draw(id_vectors(docs)),
        "query_ids": draw(id_vectors(rows)),
        "doc_log_q": random.normal(size=docs).astype(real),
        "sample_weight": random.uniform(size=rows).astype(real),
        "loss_gradient": random.normal(size=rows if reduction == "none" else ()).astype(
            real
        ),
        "reduction": reduction,
        "normalize_over": draw(st.sampled_from(["candidates", "batch"])),
        "num_threads": draw(st.integers(1, 3)),
    }
    sampler = draw(st.sampled_from(["shuffle", "ring", "all", "indices"]))
    if sampler == "indices":
        table = random.integers(0, docs, (rows, k))
        arguments["negative_indices"] = table.astype(draw(INDEX_DTYPES))
    else:
        others = docs - 1
        arguments["sampler"] = sampler
        arguments["num_negatives"] = {"all": others, "ring": max(min(k, others), 1)}.get(
            sampler, k
        )
        arguments["seed"] = np.array(draw(SEEDS))
    arrays = [name for name, value in arguments.items() if np.ndim(value) > 0]
    names = draw(st.sets(st.sampled_from(arrays), min_size=1, max_size=2))
    return CoreCall(
        arguments, {name: draw(st.sampled_from(changes)) for name in sorted(names)}
    )


def outcome(arguments: dict[str, Any]) -> dict[str, bytes] | Exception:
    """The bits of all results, or the error that refuses the call."""
    try:
        results = _core.negative_cosine_loss(**arguments)
    except (ValueError, TypeError) as error:
        return error
    return {name: values.tobytes() for name, values in results.items()}


def check_names(error: Exception, call: CoreCall) -> None:
    """One of the arguments that were changed stands in the error."""
    assert any(name in str(error) for name in call.changes), (error, list(call.changes))


def check_layout(call: CoreCall) -> None:
    arguments = call.changed()
    found = outcome(arguments)
    if isinstance(found, Exception):
        check_names(found, call)
        return
    copies = {
        name: np.array(value, value.dtype.newbyteorder("="), order="C", subok=False)
        if isinstance(value, np.ndarray)
        else value
        for name, value in arguments.items()
    }
    assert found == outcome(copies)


def check_wrong(call: CoreCall) -> None:
    found = outcome(call.changed())
    if isinstance(found, Exception):
        check_names(found, call)


@PROFILES
def test_the_same_values_in_another_memory_give_the_same_bits(profile: str) -> None:
    fuzz(profile, check_layout, core_calls(LAYOUTS, 0), 150)


@PROFILES
def test_other_values_are_refused_by_name(profile: str) -> None:
    fuzz(profile, check_wrong, core_calls(WRONG, 1), 250)


def wild(dtype: Any) -> st.SearchStrategy[Any]:
    """Numbers that no valid call has, among some that one has."""
    return st.one_of(
        integers_of(dtype), st.integers(), st.sampled_from([True, None, 1.5, "1", b"1"])
    )


@st.composite
def wild_options(draw: st.DrawFn) -> dict[str, Any]:
    """Options of any type and value; candidates in a number that fits in memory."""
    many = wild(np.int64).filter(
        lambda value: not isinstance(value, int) or not 10**4 < value < 2**31
    )
    return draw(
        st.fixed_dictionaries(
            {},
            optional={
                "num_negatives": many,
                "logit_scale": st.one_of(st.floats(), wild(np.int64)),
                "margin": st.one_of(st.floats(), wild(np.int64)),
                "negative_weight": st.one_of(st.floats(), wild(np.int64)),
                "sampler": st.sampled_from(["shuffle", "ring", "all", "", "\0", 3, None]),
                "normalize_over": st.sampled_from(["batch", "batches", b"batch", None]),
                "reduction": st.sampled_from(["none", "mean\0", "", 0]),
                "mask_self": wild(np.int32),
                "num_threads": st.sampled_from([1, 0, -1, 2**31, 5, None, "2"]),
            },
        )
    )


def check_options(options: dict[str, Any]) -> None:
    rows = np.ones((3, 2), np.float32)
    arguments: dict[str, Any] = {"num_negatives": 2, "seed": np.array([1, 2]), **options}
    found = outcome({"query": rows, "doc": rows, **arguments})
    if isinstance(found, Exception):
        names = [{"logit_scale": "scale"}.get(name, name) for name in options]
        assert any(name in str(found) for name in names), (found, options)


@PROFILES
def test_options_of_any_value_are_taken_or_refused_by_name(profile: str) -> None:
    fuzz(profile, check_options, wild_options(), 150)


@st.composite
def sampler_arguments(draw: st.DrawFn) -> tuple[Any, ...]:
    """Sizes of ``sample_negatives``, few of them sensible."""
    size = st.one_of(st.integers(0, 50), st.sampled_from([-1, *INT_EDGES]))
    return (
        draw(size),
        draw(size),
        draw(size),
        draw(st.integers(-(2**63), 2**63 - 1)),
        draw(st.integers(-(2**63), 2**64)),
        draw(st.sampled_from(["shuffle", "ring", "all", "indices"])),
    )


INT_EDGES = [2**31, 2**32, 2**62, 2**63 - 1, 2**63, -(2**63)]


def check_sample_negatives(arguments: tuple[Any, ...]) -> None:
    rows, docs, k, *_ = arguments
    try:
        table = _core.sample_negatives(*arguments)
    except (ValueError, TypeError):
        return
    assert table.shape == (rows, k)
    assert ((table >= 0) & (table < docs)).all()


@PROFILES
def test_the_sampler_gives_a_table_of_documents_or_an_error(profile: str) -> None:
    fuzz(profile, check_sample_negatives, sampler_arguments(), 200)


@st.composite
def reads(draw: st.DrawFn) -> tuple[Any, Any]:
    """A matrix and indices for ``read_rows``."""
    rows, dim = draw(st.integers(1, 6)), draw(st.integers(1, 40))
    matrix = np.arange(rows * dim, dtype=np.float32).reshape(rows, dim)
    indices = np.array(
        draw(st.lists(st.integers(-1, 6), min_size=1, max_size=40)), np.int32
    )
    layouts = st.sampled_from([*LAYOUTS, *WRONG])
    return draw(layouts)(matrix), draw(layouts)(indices)


def check_read_rows(arguments: tuple[Any, Any]) -> None:
    matrix, indices = arguments
    try:
        found = _probes.read_rows(matrix, indices)
    except (ValueError, TypeError):
        return
    exact = np.asarray(matrix)[np.asarray(indices).astype(int)].sum(dtype=np.float64)
    assert found == pytest.approx(exact, rel=1e-5)


@PROFILES
def test_reading_rows_gives_their_sum_or_an_error(profile: str) -> None:
    fuzz(profile, check_read_rows, reads(), 200)


# --- What was found so, and what is too large to be drawn. -----------------------------


def zeros_nobody_pays_for(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array of pages that are all the kernel's one page of zeros, while only read."""
    memory = mmap.mmap(-1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype).reshape(shape)


def test_more_documents_than_32_bits_count_are_refused() -> None:
    doc = zeros_nobody_pays_for((2**31, 1), np.float16)
    with pytest.raises(ValueError, match=r"doc must have at most 2\*\*31 - 1 rows"):
        _core.negative_cosine_loss(doc[:3], doc, num_negatives=1, seed=np.array([1, 2]))


def test_more_candidates_than_32_bits_count_are_refused() -> None:
    rows = np.ones((1, 1), np.float16)
    table = zeros_nobody_pays_for((1, 2**31), np.int32)
    with pytest.raises(
        ValueError, match=r"negative_indices must .* K is from 1 to 2\*\*31 - 1"
    ):
        _core.negative_cosine_loss(rows, rows, negative_indices=table)


def test_misaligned_rows_are_not_read() -> None:
    matrix = misaligned(np.ones((3, 2), np.float32))
    with pytest.raises(ValueError, match="matrix must be aligned"):
        _probes.read_rows(matrix, np.array([0], np.int32))


@pytest.mark.parametrize("sampler", ["shuffle", "ring", "all"])
def test_an_empty_batch_takes_no_memory_for_its_candidates(sampler: str) -> None:
    results = _core.negative_cosine_loss(
        np.ones((0, 4), np.float32),
        np.ones((3, 4), np.float32),
        num_negatives=2**31 - 1,
        sampler=sampler,
        seed=np.array([1, 2]),
        loss_gradient=np.ones((), np.float32),
    )
    assert results["loss"] == 0
    np.testing.assert_array_equal(results["doc_gradient"], np.zeros((3, 4)))


@pytest.mark.nightly
def test_a_table_of_more_pairs_than_32_bits_count_gives_the_exact_loss() -> None:
    rows, k = 2**15 + 1, 2**16  # 2^31 + 2^16 pairs, all of them with document 0
    embeddings = np.ones((rows, 1), np.float32)
    embeddings[0] = -1.0
    results = _core.negative_cosine_loss(
        embeddings,
        embeddings,
        negative_indices=zeros_nobody_pays_for((rows, k), np.int32),
        logit_scale=2.0,
        num_threads=2,
    )
    # Each query's own cosine is 1 and document 0's is -1; row 0 drops them all.
    np.testing.assert_allclose(
        results["row_loss"][1:], np.log1p(k * np.exp(-4.0)), rtol=1e-5
    )
    np.testing.assert_array_equal(results["num_kept"], [0] + [k] * (rows - 1))
