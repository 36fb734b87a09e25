"""Ids that are strings: the numbers that the error advises are the same everywhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from documents import ROOT
from negative_cosine import (
    DocumentFrequency,
    DocumentQueue,
    NegativeCosineLoss,
    fused_negative_cosine_loss,
)

WORDS = ["query", "doc", "", "été", "a" * 1000, "query"]


def advised() -> dict[str, str]:
    """The two expressions in the error that strings get, by where they are for."""
    with pytest.raises(ValueError, match="got string") as caught:
        fused_negative_cosine_loss(tf.eye(6), tf.eye(6), 2, doc_ids=WORDS)
    found = re.search(r"run: (tf\..*\)), or, .* (keras\..*)$", str(caught.value))
    assert found, caught.value
    return {"tensor": found[1], "layer": found[2]}


def numbered(words: Any) -> tf.Tensor:
    """The words' numbers by the expression for tensors."""
    return eval(advised()["tensor"], {"tf": tf, "doc_ids": words})


def test_both_ways_give_each_string_one_int64_number() -> None:
    ids = numbered(WORDS)
    assert ids.dtype == tf.int64
    assert len({*ids.numpy().tolist()}) == len({*WORDS})
    assert ids[0] == ids[-1]
    layer = eval(advised()["layer"], {"keras": keras})
    np.testing.assert_array_equal(layer(tf.constant(WORDS)), ids)
    mapped = tf.data.Dataset.from_tensors(WORDS).map(layer)
    np.testing.assert_array_equal(next(iter(mapped)), ids)


def test_another_process_gives_the_same_numbers() -> None:
    code = (
        "import tensorflow as tf\n"
        f"doc_ids = {WORDS!r}\n"
        f"print({advised()['tensor']}.numpy().tolist())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str(numbered(WORDS).numpy().tolist())


def test_frequencies_of_strings_are_those_of_the_strings_not_of_their_places() -> None:
    frequency = DocumentFrequency(num_buckets=2**16)
    for step in range(8):  # "a" is in every batch, "b" in every other one
        batch = ["a", "b"] if step % 2 else ["c", "a"]
        frequency(numbered(batch), training=True)
    shares = tf.exp(frequency(numbered(["a", "b"]))).numpy()
    np.testing.assert_allclose(shares, [1.0, 0.5], rtol=1e-6)


def test_strings_of_earlier_batches_are_told_apart_from_this_ones() -> None:
    queue = DocumentQueue(3)
    for batch in (["a", "b", "c"], ["d", "e", "a"]):
        longer = queue({"doc": tf.eye(3), "doc_ids": numbered(batch)}, training=True)
    ids = longer["doc_ids"].numpy()
    assert len({*ids.tolist()}) == 5
    assert ids[2] == ids[3]  # "a" here and there


def test_a_functional_model_takes_strings_through_the_layer() -> None:
    query, doc = keras.Input([4]), keras.Input([4])
    titles = keras.Input([], dtype="string")
    layer = eval(advised()["layer"], {"keras": keras})
    named = {"query": query, "doc": doc, "doc_ids": layer(titles)}
    model = keras.Model(
        [query, doc, titles], NegativeCosineLoss(3, sampler="ring", recall_at=())(named)
    )
    model.compile("sgd")
    rows = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    words = tf.constant(["a", "b", "a", "c"])
    scores = model.evaluate([rows, rows, words], verbose=0, return_dict=True)
    assert scores["dropped_share"] == pytest.approx(2 / 12)  # the two "a" meet each other


def documents_and_sources() -> list[Path]:
    """What users read and copy from."""
    patterns = ("*.md", "docs/*.md", "examples/*.py", "python/negative_cosine/*.py")
    return [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]


def test_nowhere_are_ids_numbered_by_their_place_in_one_batch() -> None:
    # The joined batch of all replicas has its numbers from there, and no others.
    joined = ROOT / "python/negative_cosine/_replicas.py"
    found = [path for path in documents_and_sources() if "tf.unique" in path.read_text()]
    assert set(found) <= {joined}
