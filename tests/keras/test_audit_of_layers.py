"""Every argument of the Keras layers' constructors in every form, as in the other audit.

A right form makes the layer that the plain value makes: with its configuration, which can
be saved, and with its outputs and losses.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import (
    DocumentFrequency,
    DocumentQueue,
    NegativeCosineLayer,
    NegativeCosineLoss,
)

from tests.loss.argument_forms import Form, Setting, all_forms, chosen_forms
from tests.loss.argument_kinds import (
    Boolean,
    Bounds,
    Count,
    Counts,
    Kind,
    Name,
    Number,
    OptionalBoolean,
    Sampler,
    Seed,
    SeedOfALayer,
    Text,
)
from tests.loss.audit_runs import assert_refused, outcome

KINDS: dict[Any, dict[str, Kind]] = {
    NegativeCosineLoss: {
        "num_negatives": Count(3, none_is_right=True),
        "sampler": Sampler(("shuffle", "ring", "all")),
        "seed": Seed(),
        "evaluation_seed": SeedOfALayer(),
        "scale": Number(12.5, lowest=0),
        "temperature": Number(0.75, lowest=0),
        "learn_temperature": Boolean(True),
        "logit_scale_bounds": Bounds(),
        "margin": Number(0.125),
        "negative_weight": Number(2.5, lowest=0),
        "mask_self": Boolean(False),
        "normalize_over": Name(("candidates", "batch")),
        "reduction": Name(("mean", "sum")),
        "cross_replica": Boolean(True),
        "implementation": Name(("auto", "native", "reference")),
        "recall_at": Counts(),
        "metric_prefix": Text(("left_",)),
        "num_hard_negatives": Count(3, none_is_right=True),
    },
    DocumentQueue: {"size": Count(4)},
    DocumentFrequency: {
        "num_buckets": Count(100),
        "num_hashes": Count(2),
        "learning_rate": Number(0.25, lowest=0, highest=1),
        "cross_replica": Boolean(True),
    },
    NegativeCosineLayer: {
        "NEG": Count(3),
        "t": Number(0.75, lowest=0),
        "normalize_over": Name(("batch", "candidates")),
        "mask_self": OptionalBoolean(True),
    },
}
# Without rows no number of candidates is too many.
SETTING = Setting(rows=0, docs=9, dim=4, k=3, precision="float32")
NEEDED: dict[Any, dict[str, Any]] = {
    NegativeCosineLoss: {"num_negatives": 8, "seed": (1, 2)},
    NegativeCosineLayer: {"NEG": 8},
}
# More buckets or slots than these are not made.
MANY = 10_000


def arguments() -> Iterator[Any]:
    """Every argument of every layer."""
    for layer, kinds in KINDS.items():
        for name in kinds:
            yield pytest.param(layer, name, id=f"{layer.__name__}-{name}")


def made(layer: Any, name: str, value: Any) -> Any:
    """A layer of one argument, and those that it needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the article's arithmetic
        needed = dict(NEEDED.get(layer, {}))
        if name == "num_hard_negatives":  # takes the place of num_negatives
            del needed["num_negatives"]
        return layer(**{**needed, name: value})


@pytest.mark.parametrize("layer", KINDS)
def test_every_argument_of_a_layer_has_a_kind(layer: Any) -> None:
    names = set(inspect.signature(layer.__init__).parameters) - {"self", "kwargs"}
    assert names == set(KINDS[layer])


@pytest.mark.parametrize(("layer", "name"), list(arguments()))
def test_every_form_of_a_layers_argument_is_right_or_refused_by_name(
    layer: Any, name: str
) -> None:
    kind = KINDS[layer][name]
    values = kind.values(SETTING, name)
    forms = {form.name: form for form in all_forms(values)}
    faults = {}
    for form_name in chosen_forms(values):
        try:
            check(layer, name, kind, forms[form_name])
        except Exception as fault:
            faults[form_name] = f"{type(fault).__name__}: {str(fault).splitlines()[:1]}"
    assert not faults


def check(layer: Any, name: str, kind: Kind, form: Form) -> None:
    """One form."""
    found = outcome(lambda: {"layer": made(layer, name, form.make())})
    if kind.judge(form.given, SETTING):
        assert_refused(found, name)
        return
    assert isinstance(found, dict), f"refused: {found.error}"
    of_form, of_value = found["layer"].item(), made(layer, name, plain(form))
    assert written(of_form) == written(of_value)
    is_large = isinstance(kind, Count) and (plain(form) or 0) > MANY
    if not is_large and (name, form.name) != ("seed", "None"):
        assert results_of(of_form) == results_of(of_value)


def plain(form: Form) -> Any:
    """What a right form stands for, as Python writes it."""
    assert form.given is not None
    return None if form.given.value is None else form.given.value.tolist()


def written(layer: Any) -> Any:
    """What is saved of a layer."""
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    del config["config"]["name"]
    return config


def results_of(layer: Any) -> Any:
    """What a layer makes of a batch in training."""
    random = np.random.default_rng(0)
    query, doc = (tf.constant(random.normal(size=(9, 4)), tf.float32) for _ in "qd")
    if isinstance(layer, NegativeCosineLoss):
        inputs = {"query": query, "doc": doc}
        if layer.num_negatives is layer.num_hard_negatives is None:
            inputs["negative_indices"] = tf.ones([9, 3], tf.int32)
        layer(inputs, training=True)
        return [float(loss) for loss in layer.losses]
    tf.random.set_seed(1)
    if isinstance(layer, NegativeCosineLayer):
        return layer([query, doc]).numpy().tolist()
    if isinstance(layer, DocumentQueue):
        layer(doc, training=True)
        return layer(query)["doc"].numpy().tolist()
    ids = tf.constant([1, 1, 2])
    layer(ids, training=True)
    return layer(ids, training=True).numpy().tolist()
