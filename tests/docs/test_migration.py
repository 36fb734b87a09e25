"""docs/migration.md is true: both sides of each pair give the same loss and gradients."""

from __future__ import annotations

import operator
import re
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest
import tensorflow as tf

from tests.docs.stand_ins import stand_in_modules
from tests.support.cases import GRADIENT_TOLERANCE, VALUE_TOLERANCE, error
from tests.support.checkout import ROOT
from tests.support.documents import python_blocks
from tests.support.tensorflow_runs import in_mode

PAGE = (ROOT / "docs/migration.md").read_text()
EMBEDDINGS = ("query", "doc", "hard")

Names = dict[str, Any]


class Pair(NamedTuple):
    """The two sides of a table, and the blocks above that make their data."""

    heading: str
    data: list[str]
    before: str
    after: str


def read_pairs(page: str) -> list[Pair]:
    """Every table is a pair; blocks outside tables are data for all that follow."""
    pairs: list[Pair] = []
    data: list[str] = []
    heading = ""
    for part in re.split(r"(<table>.*?</table>)", page, flags=re.DOTALL):
        if part.startswith("<table>"):
            before, after = python_blocks(part)
            pairs.append(Pair(heading, list(data), before, after))
        else:
            data += python_blocks(part)
            heading = (re.findall(r"^### (.*)", part, re.MULTILINE) or [heading])[-1]
    return pairs


PAIRS = read_pairs(PAGE)
# A graph's fresh draws are others than eager ones.
DRAWS = ("num_negatives=", "tf.random.")
WITHOUT_DRAWS = [pair for pair in PAIRS if not any(word in pair.after for word in DRAWS)]


def blocks_that_run() -> set[str]:
    """The blocks of the page that belong to a pair."""
    return {code for pair in PAIRS for code in (*pair.data, pair.before, pair.after)}


heading_of = operator.attrgetter("heading")

pytestmark = pytest.mark.filterwarnings("ignore:NegativeCosineLayer computes")


@pytest.fixture(autouse=True)
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the page imports besides this package."""
    for name, module in stand_in_modules().items():
        monkeypatch.setitem(sys.modules, name, module)


def pair_of(heading: str) -> Pair:
    """The pair under a heading of the page."""
    (pair,) = (pair for pair in PAIRS if pair.heading == heading)
    return pair


def without(block: str, argument: str) -> str:
    """The block without one of its arguments."""
    assert argument in block
    return block.replace(argument, "")


def run(block: str, names: Names) -> Names:
    """The names that are there after the block has run."""
    found = dict(names)
    tf.random.set_seed(5)
    exec(compile(block, "docs/migration.md", "exec"), found)
    return found


def data_of(pair: Pair, dtype: str = "float32") -> Names:
    """What the page makes for the pair, its floating-point numbers in ``dtype``."""
    names: Names = {"model": None}
    for block in pair.data:
        names = run(block, names)
    return {
        name: tf.cast(value, dtype)
        if tf.is_tensor(value) and value.dtype.is_floating
        else value
        for name, value in names.items()
    }


def loss_and_gradients(block: str, names: Names) -> tuple[Names, dict[str, Any]]:
    """The names after the block, and what its ``loss`` says about the embeddings."""
    watched = {name: names[name] for name in EMBEDDINGS}
    with tf.GradientTape() as tape:
        tape.watch(watched)
        found = run(block, names)
    return found, tape.gradient(found["loss"], watched, unconnected_gradients="zero")


def assert_same(pair: Pair, names: Names) -> None:
    dtype = names["query"].dtype.name
    before, expected = loss_and_gradients(pair.before, names)
    after, found = loss_and_gradients(pair.after, names)
    losses = [np.squeeze(side["loss"]) for side in (after, before)]
    assert error(*losses) <= VALUE_TOLERANCE[dtype]
    assert np.any(expected["query"])
    for name in EMBEDDINGS:
        assert error(found[name], expected[name]) <= GRADIENT_TOLERANCE[dtype], name
    if "recall" in before:
        assert 0 < float(before["recall"]) < 1
        assert float(after["recall"]) == pytest.approx(float(before["recall"]), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("pair", PAIRS, ids=heading_of)
def test_both_sides_give_the_same_loss_and_gradients(pair: Pair, dtype: str) -> None:
    assert_same(pair, data_of(pair, dtype))


def test_the_printed_class_overflows_in_float16_and_the_layer_does_not() -> None:
    pair = pair_of("As printed")
    names = data_of(pair, "float16")
    assert not np.isfinite(run(pair.before, names)["loss"])
    assert np.isfinite(run(pair.after, names)["loss"])


def test_rows_with_fewer_hard_negatives_than_asked_for_agree_too() -> None:
    pair = pair_of("`num_hard_negatives`")
    names = data_of(pair, "float64")
    # 250 documents of one title: their rows have six negatives, fewer than 20.
    names["titles"] = tf.constant(["one"] * 250 + ["another"] * 6)
    names["title_ids"] = tf.constant([1] * 250 + [2] * 6)
    assert_same(pair, names)


def test_hard_negatives_without_ids_leave_out_the_diagonal_alone() -> None:
    pair = pair_of("`num_hard_negatives`")
    before = without(pair.before, "remove_accidental_hits=True,")
    after = without(pair.after, '"doc_ids": title_ids,')
    names = data_of(pair, "float64")
    del names["titles"]
    before = without(before, "candidate_ids=titles,")
    assert_same(pair._replace(before=before, after=after), names)


def test_probabilities_below_1e_6_agree_once_clipped() -> None:
    pair = pair_of("`candidate_sampling_probability` and `sample_weight`")
    names = data_of(pair, "float64")
    names["probability"] *= 1e-4
    clip = "probability = tf.clip_by_value(probability, 1e-6, 1.0)\n"
    assert_same(pair._replace(after=clip + pair.after), names)


@pytest.mark.parametrize("heading", ["`temperature`", "Hard negatives"])
def test_towers_may_end_in_unit_or_not(heading: str) -> None:
    pair = pair_of(heading)
    normalise = "query, doc, hard = unit(query), unit(doc), unit(hard)\n"
    assert_same(pair._replace(before=normalise + pair.after), data_of(pair, "float64"))


def test_unit_shortens_rows_that_the_loss_still_normalises() -> None:
    pair = pair_of("Pairs")
    names = data_of(pair, "float64")
    usual = run(pair.after, names)["loss"]
    names["query"] *= 1e-9
    assert tf.norm(names["unit"](names["query"])[0]) < 0.1
    assert error(run(pair.after, names)["loss"], usual) <= VALUE_TOLERANCE["float64"]


@pytest.mark.parametrize("pair", WITHOUT_DRAWS, ids=heading_of)
def test_the_right_side_runs_in_a_graph_of_unknown_batch_size(pair: Pair) -> None:
    names = data_of(pair)
    tensors = {name: value for name, value in names.items() if tf.is_tensor(value)}

    def step(given: Names) -> Any:
        return run(pair.after, names | given)["loss"]

    eager, graph = (in_mode(mode, step, tensors) for mode in ("eager", "graph"))
    assert error(graph, eager) <= VALUE_TOLERANCE["float32"]
