"""The loss as a Keras layer: adds the loss, reports metrics, returns its inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import tensorflow as tf

from negative_cosine._hard_negatives import hardest_negatives
from negative_cosine._inputs import LossInputs, check_inputs, num_replicas
from negative_cosine._joined_loss import JoinedBatch, joined_loss
from negative_cosine._keras_environment import (
    check_environment,
    keras,
    refuse_tensors_of_keras_2,
)
from negative_cosine._keras_step import (
    is_step,
    is_training,
    refuse_step_of_keras_2,
    refuse_weights_without_a_loss,
    warn_of_equal_metric_names,
)
from negative_cosine._loss import compiles_with_xla, fused_negative_cosine_loss
from negative_cosine._masked_inputs import leave_masked_out, mean_over_counted
from negative_cosine._metrics import make_metrics, update_metrics
from negative_cosine._options import (
    IMPLEMENTATIONS,
    check_boolean,
    check_count,
    check_counts,
    check_name,
    check_pair_of_numbers,
    check_text,
)
from negative_cosine._replica_losses import LayerWithLosses, other_losses_kept
from negative_cosine._seed import check_seed
from negative_cosine._warnings import warn

REQUIRED_INPUTS = ("query", "doc")
OPTIONAL_INPUTS = (
    "doc_ids",
    "query_ids",
    "doc_log_q",
    "sample_weight",
    "negative_indices",
)
# `add_loss` takes a scalar: Keras would sum the rows of "none".
LAYER_REDUCTIONS = ("mean", "sum")


@keras.saving.register_keras_serializable(package="negative_cosine")
class NegativeCosineLoss(LayerWithLosses):
    """Adds the loss of ``fused_negative_cosine_loss`` to a Keras model, with metrics.

    Call the layer on the outputs of the two towers. A model that holds it needs no labels
    and no loss in ``compile``. In training it draws new candidates in each step; in
    evaluation it draws with ``evaluation_seed``, so that two evaluations of a model agree.
    Elsewhere, as in ``predict``, ``export`` and ``model(x)``, it returns its inputs and
    does nothing else. In a loop of your own, a call with ``training=True`` is a training
    step. For an evaluation, name the function that calls the model ``test_step``, which the
    layer looks for among its callers, or call ``fused_negative_cosine_loss``.

    The metrics are means over the rows, weighted by ``sample_weight``:
    ``negative_cosine_loss``, ``in_batch_accuracy`` (no kept candidate has a larger logit
    than the positive), ``recall_at_k`` (fewer than k have), ``positive_cosine``, and,
    without weights, ``dropped_share``: the share of the candidates that were dropped. A
    row counts for ``recall_at_k`` if it kept k candidates, and for ``in_batch_accuracy`` if
    it kept one. A metric for which no row counted is NaN.

    ``fit``'s ``sample_weight`` and ``class_weight`` weigh only losses given to ``compile``.
    Keras would ignore them in a model without such a loss. There the layer refuses them:
    give the weights as its input ``sample_weight``.

    A row whose query or own document Keras masks (``Embedding(mask_zero=True)``,
    ``Masking``) has ``sample_weight`` 0, and the mean is over the other rows. A masked
    document is never a candidate.

    Under ``tf.distribute`` each replica draws from its own batch, and ``loss`` is the mean
    of the replicas' own. With ``cross_replica`` each draws from the documents of all, and
    ``loss``, the metrics and the gradients are those of one device on the joined batch.

    Example:
        >>> import numpy as np
        >>> query, doc = keras.Input([8]), keras.Input([8])
        >>> towers = keras.layers.Dense(4)(query), keras.layers.Dense(4)(doc)
        >>> model = keras.Model([query, doc], NegativeCosineLoss(3)(list(towers)))
        >>> model.compile("adam")
        >>> rows = np.random.default_rng(0).normal(size=(16, 8))
        >>> sorted(model.evaluate([rows, rows], verbose=0, return_dict=True))[:3]
        ['dropped_share', 'in_batch_accuracy', 'loss']

    Args:
        num_negatives: K, the candidates drawn for each query. None where the input
            ``negative_indices`` brings them, with ``num_hard_negatives``, and for
            ``sampler="all"``.
        sampler: ``"shuffle"``, ``"ring"`` or ``"all"``.
        seed: two integers that start a sequence of seeds of the layer's own, one for each
            training step; how far it has come is saved with the model. None:
            ``tf.random.set_seed`` and ``keras.utils.set_random_seed`` govern the draws.
        evaluation_seed: two integers, the seed of every evaluation step.
        scale: a number above 0.
        temperature: the same; the logits are multiplied by ``scale / temperature``.
        learn_temperature: train ``scale / temperature``, from the value given, as its
            logarithm in the float32 weight ``log_logit_scale``.
        logit_scale_bounds: the smallest and the largest value that it may reach.
        margin: subtracted from the positive's cosine.
        negative_weight: how often each drawn negative counts in the softmax, a number
            above 0. ``"auto"``: so often that the loss estimates that against every
            document.
        mask_self: drop a candidate that is the query's own document.
        normalize_over: ``"candidates"`` or ``"batch"``.
        reduction: ``"mean"`` over the rows or ``"sum"``.
        cross_replica: under a ``tf.distribute`` strategy draw from the documents of every
            replica, as ``fused_negative_cosine_loss`` does; ``num_negatives`` is judged by
            their number. With one replica it changes nothing.
        implementation: ``"auto"``, ``"native"`` or ``"reference"``.
        recall_at: the k of the recalls to report; those above ``num_negatives`` are
            omitted with a warning.
        metric_prefix: put before the metrics' names, to tell the layers of a model apart.
        num_hard_negatives: K, to take the ``hardest_negatives`` of each query in place of a
            sampler's: of the whole batch, which costs a product of all its rows. Not with
            ``cross_replica``.
        **kwargs: of ``keras.layers.Layer``.

    Call arguments:
        inputs: ``[query, doc]``, or a dict with ``query`` ``[B, D]``, ``doc`` ``[C, D]``
            and, as for ``fused_negative_cosine_loss``, any of ``doc_ids``,
            ``query_ids``, ``doc_log_q``, ``sample_weight`` and ``negative_indices``.
        training: whether to draw anew; Keras passes it. None: whether a ``train_step``
            called. False is inference, except in a ``test_step``.
        mask: Keras's, one boolean a row, for each of the inputs; only those of ``query``
            and ``doc`` matter. Keras passes what came with the inputs.

    Returns:
        ``(query, doc)`` as given, with their masks, for layers after this one. The
        embeddings keep their dtype; the loss is float32, or float64 for float64 embeddings.

    Raises:
        ValueError: an argument or an input is wrong; the message names it, and what is
            allowed. The same for weights that Keras would ignore.
        RuntimeError: Keras 2, or a backend of Keras other than TensorFlow.

    Source:
        As for ``fused_negative_cosine_loss``; the trained logarithm of the logit scale
        and its upper bound of 100 are those of Radford et al., "Learning transferable
        visual models from natural language supervision" (2021).
    """

    def __init__(
        self,
        num_negatives: int | None = None,
        *,
        sampler: str = "shuffle",
        seed: Sequence[int] | None = None,
        evaluation_seed: Sequence[int] = (0, 0),
        scale: float = 20.0,
        temperature: float = 1.0,
        learn_temperature: bool = False,
        logit_scale_bounds: Sequence[float] = (1.0, 100.0),
        margin: float = 0.0,
        negative_weight: float | str = 1.0,
        mask_self: bool = True,
        normalize_over: str = "candidates",
        reduction: str = "mean",
        cross_replica: bool = False,
        implementation: str = "auto",
        recall_at: Sequence[int] = (10,),
        metric_prefix: str = "",
        num_hard_negatives: int | None = None,
        **kwargs: Any,
    ) -> None:
        check_environment("NegativeCosineLoss")
        # Each embedding keeps the dtype that its tower gave it, logQ and weights theirs.
        super().__init__(**{"autocast": False, **kwargs})
        check_name("reduction", reduction, LAYER_REDUCTIONS)
        check_name("implementation", implementation, IMPLEMENTATIONS)
        for name, number in (("scale", scale), ("temperature", temperature)):
            if tf.is_tensor(number):
                raise ValueError(
                    f"{name} must be a number above 0, got {number!r}; to train it, use "
                    "learn_temperature=True"
                )
        checked = _check_options(
            num_negatives,
            sampler=sampler,
            scale=scale,
            temperature=temperature,
            margin=margin,
            negative_weight=negative_weight,
            mask_self=mask_self,
            normalize_over=normalize_over,
            reduction=reduction,
            cross_replica=cross_replica,
        )
        self.num_negatives = num_negatives
        self.num_hard_negatives = _num_hard_negatives(
            num_hard_negatives, num_negatives, sampler, mask_self, cross_replica
        )
        self.sampler = sampler
        self.seed = None if seed is None else _pair_of_integers("seed", seed)
        self.evaluation_seed = _pair_of_integers("evaluation_seed", evaluation_seed)
        self.scale = float(scale)
        self.temperature = float(temperature)
        self.learn_temperature = check_boolean("learn_temperature", learn_temperature)
        self.logit_scale_bounds = _bounds(
            logit_scale_bounds, scale / temperature, learn_temperature
        )
        self.margin = float(margin)
        weight = checked.negative_weight
        self.negative_weight = "auto" if weight is None else weight
        self.mask_self = mask_self
        self.normalize_over = normalize_over
        self.reduction = reduction
        self.cross_replica = cross_replica
        self.implementation = implementation
        self.recall_at = check_counts("recall_at", recall_at)
        self.metric_prefix = check_text("metric_prefix", metric_prefix)
        self.supports_jit = compiles_with_xla(implementation)
        self._reported_recalls = _reported_recalls(
            self.recall_at, num_negatives or self.num_hard_negatives
        )
        self._metrics_by_name = make_metrics(self.metric_prefix, self._reported_recalls)

    def build(self, input_shape: Any) -> None:
        """Makes the weights that the options ask for; none by default."""
        if self.learn_temperature:
            start = math.log(self.scale / self.temperature)
            self.log_logit_scale = self.add_weight(
                name="log_logit_scale",
                initializer=keras.initializers.Constant(start),
                constraint=_Between(*self._log_bounds),
                dtype="float32",
                autocast=False,
            )
        if self.seed is not None:
            self.num_draws = self.add_weight(
                name="num_draws",
                initializer="zeros",
                dtype="int64",
                trainable=False,
                aggregation="none",  # no replica waits for another: _replica_losses.py
            )

    def __call__(self, *inputs: Any, **arguments: Any) -> Any:
        """Calls the layer, with all inputs in one list or dict."""
        if len(inputs) > 1:
            raise ValueError(_wrong_inputs(f"{len(inputs)} arguments"))
        return super().__call__(*inputs, **arguments)

    def call(
        self, inputs: Any, training: bool | None = None, mask: Any = None
    ) -> tuple[Any, Any]:
        """Returns ``(query, doc)``; in a step also adds the loss and moves the metrics."""
        named = _named_inputs(inputs)
        refuse_tensors_of_keras_2("NegativeCosineLoss", inputs)
        step = is_step(training)
        self.note_whether_a_loss_follows(step)
        if step:
            refuse_step_of_keras_2("NegativeCosineLoss")
            refuse_weights_without_a_loss(self.name)
            warn_of_equal_metric_names(self)
            named, counts = leave_masked_out(named, _masks(inputs, mask))
            waits = self.cross_replica and num_replicas() > 1
            with other_losses_kept(self) if waits else nullcontext():
                self._add_loss_and_metrics(named, counts, is_training(training))
        return named["query"], named["doc"]

    def compute_mask(self, inputs: Any, previous_mask: Any) -> tuple[Any, Any]:
        """The masks of query and doc, which are passed on as they are."""
        masks = _masks(inputs, previous_mask)
        return masks["query"], masks["doc"]

    def compute_output_spec(
        self, inputs: Any, training: Any = None, mask: Any = None
    ) -> Any:
        """Checks shapes and dtypes as a step does, while the model is built."""
        return super().compute_output_spec(inputs, training=True, mask=mask)

    def _add_loss_and_metrics(
        self, named: Mapping[str, Any], counts: tf.Tensor | None, training: bool
    ) -> None:
        named = self._with_hardest(named)
        optional: dict[str, Any] = {name: named.get(name) for name in OPTIONAL_INPUTS}
        loss, stats = fused_negative_cosine_loss(
            named["query"],
            named["doc"],
            self.num_negatives,
            **optional,
            sampler=self.sampler,
            seed=self._next_seed() if training else self.evaluation_seed,
            **self._scale_and_temperature(),
            margin=self.margin,
            negative_weight=self.negative_weight,
            mask_self=self.mask_self,
            normalize_over=self.normalize_over,
            reduction=self.reduction,
            return_stats=True,
            cross_replica=self.cross_replica,
            implementation=self.implementation,
        )
        num_docs = tf.shape(named["doc"])[0]
        if self.reduction != "mean":
            counts = None  # what is left out of a sum is left out already
        if self.cross_replica and num_replicas() > 1:
            joined = JoinedBatch.of(loss, named["query"], named["doc"], counts)
            loss, num_docs = joined_loss(loss, joined), joined.docs
        elif counts is not None:
            loss = mean_over_counted(loss, counts)
        # Keras's trainer divides it by the number of replicas, whose gradients it adds up.
        self.add_loss(loss)
        update_metrics(
            self._metrics_by_name,
            self._reported_recalls,
            stats,
            self._num_candidates(named, num_docs),
            named.get("sample_weight"),
        )

    def _with_hardest(self, named: Mapping[str, Any]) -> Mapping[str, Any]:
        """The inputs with the hardest negatives as their candidates, if asked for."""
        if self.num_hard_negatives is None:
            return named
        if named.get("negative_indices") is not None:
            raise ValueError(
                "give either num_hard_negatives or the input negative_indices, got both "
                f"(num_hard_negatives={self.num_hard_negatives})"
            )
        table = hardest_negatives(
            named["query"],
            named["doc"],
            self.num_hard_negatives,
            doc_ids=named.get("doc_ids"),
            query_ids=named.get("query_ids"),
            doc_log_q=named.get("doc_log_q"),
            **self._scale_and_temperature(),
        )
        return {**named, "negative_indices": table}

    def get_config(self) -> dict[str, Any]:
        """The arguments of the constructor."""
        names = (
            "num_negatives",
            "sampler",
            "seed",
            "evaluation_seed",
            "scale",
            "temperature",
            "learn_temperature",
            "logit_scale_bounds",
            "margin",
            "negative_weight",
            "mask_self",
            "normalize_over",
            "reduction",
            "cross_replica",
            "implementation",
            "recall_at",
            "metric_prefix",
            "num_hard_negatives",
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    @property
    def _log_bounds(self) -> tuple[float, float]:
        smallest, largest = self.logit_scale_bounds
        return math.log(smallest), math.log(largest)

    def _scale_and_temperature(self) -> dict[str, Any]:
        if not self.learn_temperature:
            return {"scale": self.scale, "temperature": self.temperature}
        # The constraint holds the weight within its bounds wherever Keras's optimizers
        # change it. This holds the loss there, whatever else changes the weight.
        log_scale = tf.clip_by_value(
            tf.convert_to_tensor(self.log_logit_scale), *self._log_bounds
        )
        return {"scale": tf.exp(log_scale), "temperature": 1.0}

    def _next_seed(self) -> tf.Tensor | None:
        """The seed of a training step; None leaves it to the global generator."""
        if self.seed is None:
            return None
        draws = tf.convert_to_tensor(self.num_draws)
        self.num_draws.assign_add(1)
        first, second = self.seed
        return tf.stack([tf.constant(first, tf.int64), second + draws])

    def _num_candidates(self, named: Mapping[str, Any], num_docs: tf.Tensor) -> tf.Tensor:
        if named.get("negative_indices") is not None:
            return tf.shape(named["negative_indices"])[1]
        if self.num_negatives is not None:
            return tf.constant(self.num_negatives)
        return num_docs - 1


class _Between(keras.constraints.Constraint):
    """Keeps a weight within two bounds."""

    def __init__(self, smallest: float, largest: float) -> None:
        self.smallest = smallest
        self.largest = largest

    def __call__(self, weight: Any) -> tf.Tensor:
        return tf.clip_by_value(tf.convert_to_tensor(weight), self.smallest, self.largest)


def _check_options(num_negatives: int | None, **options: Any) -> LossInputs:
    """Checks the options as the loss does, on a batch without rows."""
    is_drawn = num_negatives is not None or options["sampler"] == "all"
    return check_inputs(
        tf.zeros([0, 1]),
        tf.zeros([0, 1]),
        num_negatives,
        negative_indices=None if is_drawn else tf.zeros([0, 1], tf.int32),
        seed=(0, 0),
        doc_ids=None,
        query_ids=None,
        doc_log_q=None,
        sample_weight=None,
        **options,
    )


def _num_hard_negatives(
    value: Any,
    num_negatives: int | None,
    sampler: str,
    mask_self: bool,
    cross_replica: bool,
) -> int | None:
    if value is None:
        return None
    count: int = check_count("num_hard_negatives", value)
    if num_negatives is not None or sampler == "all":
        raise ValueError(
            "num_hard_negatives takes the place of a sampler: it needs num_negatives=None "
            f"and no sampler='all', got num_negatives={num_negatives!r}, "
            f"sampler={sampler!r}"
        )
    if not mask_self:
        raise ValueError(
            "num_hard_negatives needs mask_self=True, which drops the places of a query "
            f"with fewer candidates, got mask_self={mask_self!r}"
        )
    if cross_replica:
        raise ValueError(
            "num_hard_negatives are chosen among the replica's own documents: it needs "
            f"cross_replica=False, got cross_replica={cross_replica!r}"
        )
    return count


def _pair_of_integers(name: str, seed: Any) -> tuple[int, int]:
    if seed is None:
        raise ValueError(f"{name} must be two integers, got None")
    with tf.init_scope():  # a layer may be made while a graph is traced
        first, second = check_seed(seed, name).numpy().tolist()
    return first, second


def _bounds(bounds: Any, start: float, learned: bool) -> tuple[float, float]:
    smallest, largest = check_pair_of_numbers("logit_scale_bounds", bounds)
    if not 0 < smallest < largest < math.inf:
        raise ValueError(
            "logit_scale_bounds must be two finite numbers above 0, the smaller first, "
            f"got {bounds!r}"
        )
    if learned and not smallest <= start <= largest:
        raise ValueError(
            f"scale / temperature must start within logit_scale_bounds={bounds!r}, got "
            f"{start!r}; change one of them"
        )
    return smallest, largest


def _reported_recalls(recall_at: tuple[int, ...], k: int | None) -> tuple[int, ...]:
    """Without those that would be 1 for any model: the positive is one of K + 1."""
    omitted = [at for at in recall_at if k is not None and at > k]
    if omitted:
        names = ", ".join(f"recall_at_{at}" for at in omitted)
        warn(
            f"recall_at={recall_at!r} gives no metric {names}, since each query has "
            f"K = num_negatives = {k} candidates; give values of at most {k}, or () to "
            "report no recall",
            UserWarning,
        )
    return tuple(at for at in recall_at if at not in omitted)


def _named_inputs(inputs: Any) -> Mapping[str, Any]:
    if isinstance(inputs, Mapping):
        unknown = sorted(set(inputs) - {*REQUIRED_INPUTS, *OPTIONAL_INPUTS})
        missing = [name for name in REQUIRED_INPUTS if inputs.get(name) is None]
        if unknown or missing:
            raise ValueError(
                f"inputs must have the keys {', '.join(REQUIRED_INPUTS)} and any of "
                f"{', '.join(OPTIONAL_INPUTS)}, got {', '.join(sorted(inputs))}"
            )
        return inputs
    if not isinstance(inputs, list | tuple) or len(inputs) != 2:
        raise ValueError(_wrong_inputs(repr(inputs)))
    return dict(zip(REQUIRED_INPUTS, inputs, strict=True))


def _wrong_inputs(got: str) -> str:
    return (
        "inputs must be [query, doc], or a dict with query, doc and any of "
        f"{', '.join(OPTIONAL_INPUTS)}, got {got}; call the layer on the outputs of "
        "the two towers: it adds its loss itself, so compile needs no loss"
    )


def _masks(inputs: Any, mask: Any) -> dict[str, Any]:
    """What Keras gives as ``mask``, which is made like the inputs, by their names."""
    if mask is None:
        return dict.fromkeys(REQUIRED_INPUTS)
    if isinstance(mask, Mapping) and isinstance(inputs, Mapping):
        return {name: mask.get(name) for name in REQUIRED_INPUTS}
    if isinstance(mask, list | tuple) and len(mask) == 2:
        return dict(zip(REQUIRED_INPUTS, mask, strict=True))
    raise ValueError(
        "mask must have the structure of inputs, [mask of query, mask of doc] or a dict of "
        f"masks, got {mask!r}"
    )
