"""The public functions: check the arguments, choose an implementation, call it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from negative_cosine._autograph import without_autograph
from negative_cosine._device import device_in_use
from negative_cosine._fixes import ON_THE_CPU, with_fix
from negative_cosine._inputs import check_inputs
from negative_cosine._loader import (
    cuda_fix,
    cuda_problem,
    native_library,
    xla_kernel_available,
)
from negative_cosine._native import native_loss
from negative_cosine._options import IMPLEMENTATIONS, check_boolean, check_name
from negative_cosine._reference import reference_loss
from negative_cosine._replicas import Compute, loss_across_replicas
from negative_cosine._runtime_checks import all_hold, asserted
from negative_cosine._sampler import SAMPLERS, candidate_table
from negative_cosine._seed import check_seed, seed_checks
from negative_cosine._table_sizes import check_table_sizes
from negative_cosine._warnings import warn


@without_autograph
def fused_negative_cosine_loss(
    query: Any,
    doc: Any,
    num_negatives: int | None = None,
    *,
    negative_indices: Any = None,
    sampler: str = "shuffle",
    seed: Any = None,
    scale: Any = 20.0,
    temperature: Any = 1.0,
    margin: float = 0.0,
    negative_weight: float | str = 1.0,
    mask_self: bool = True,
    doc_ids: Any = None,
    query_ids: Any = None,
    doc_log_q: Any = None,
    sample_weight: Any = None,
    normalize_over: str = "candidates",
    reduction: str = "mean",
    return_stats: bool = False,
    cross_replica: bool = False,
    implementation: str = "auto",
) -> Any:
    """Softmax loss of each query's own document against K others of the batch.

    Row ``i`` of ``query`` and row ``i`` of ``doc`` are a pair. Each query also meets K
    candidates, rows of ``doc``; the logits are cosines times ``scale / temperature``, and
    the loss is minus the log of the positive's softmax probability. Loss and gradients
    take two passes over the rows and keep nothing of size ``B * K`` between them.

    Example:
        >>> query = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
        >>> doc = [[2.0, 0.0], [0.0, 3.0], [0.5, 0.5]]
        >>> loss = fused_negative_cosine_loss(query, doc, 2, seed=(1, 2))
        >>> round(float(loss), 4)
        0.0038

        As if each negative had been drawn twice:

        >>> loss = fused_negative_cosine_loss(
        ...     query, doc, 2, seed=(1, 2), negative_weight=2
        ... )
        >>> round(float(loss), 4)
        0.0076

    Args:
        query: ``[B, D]``, float16, bfloat16, float32 or float64.
        doc: ``[C, D]``, the same dtype, ``C >= B``. Rows from B on are further candidates
            (mined hard negatives, other replicas' documents), and no query's positive.
        num_negatives: K >= 1, the candidates drawn for each query. None with
            ``negative_indices``; for ``sampler="all"`` None or ``C - 1``.
        negative_indices: int32 or int64 ``[B, K]`` with values in ``[0, C)``: your own
            candidates in place of a sampler; ``sampler`` and ``seed`` are then unused.
        sampler: ``"shuffle"``: K random permutations of the documents. ``"ring"``: the K
            that follow on a randomly ordered ring, distinct. ``"all"``: every other one.
        seed: two integers, int32 or int64 ``[2]``: the same seed gives the same
            candidates on every device. None: a fresh seed each step, governed by
            ``tf.random.set_seed``; with ``tf.recompute_grad`` give one, or the gradient
            is of another draw.
        scale: a number above 0, or a scalar tensor or variable, which gets a gradient. A
            value that is not above 0 and finite when it runs is an error; on a GPU, and in
            the reference under XLA, the loss is NaN. Train a logarithm:
            ``tf.exp(log_scale)``.
        temperature: the same; the logits are multiplied by ``scale / temperature``.
        margin: subtracted from the positive's cosine.
        negative_weight: a finite number above 0: each drawn negative counts that often in
            the softmax. Its logarithm is added to their logits, whatever the scale is; the
            ranks are without it. ``"auto"``: the number of documents that could have been
            drawn over K, which makes the sampled loss estimate that against all of them:
            ``C / K`` for ``"shuffle"``, ``(C - 1) / K`` for ``"ring"`` and 1 for
            ``"all"``. With ``negative_indices`` give a number.
        mask_self: drop a candidate that is the query's own document.
        doc_ids: int32 or int64 ``[C]``: drop a candidate with the positive's id.
        query_ids: int32 or int64 ``[B]``: drop a candidate ``j < B`` whose query has the
            same id: another clicked document of the same query.
        doc_log_q: float ``[C]``, log sampling probabilities, subtracted from the logits
            (logQ correction; no gradient). Infinity excludes a document: it is never a
            candidate. Minus infinity and NaN are errors, or an infinite loss where the
            host does not see them.
        sample_weight: float or bool ``[B]``, multiplies each row's loss. A row of weight 0
            adds exactly nothing, even if it holds NaN.
        normalize_over: ``"candidates"``, or ``"batch"`` for a softmax over the batch's
            positives, without candidates.
        reduction: ``"mean"`` over the rows, ``"sum"`` or ``"none"``.
        return_stats: also return a ``NegativeCosineStats``.
        cross_replica: under a ``tf.distribute`` strategy draw candidates from the
            documents of every replica: C counts them all, this replica's first. The mean
            is then over all replicas' queries, so that the replicas' losses, and their
            gradients, sum to one device's on the joined batch. With one replica, or
            outside of ``Strategy.run``, nothing changes.
        implementation: ``"native"``: the compiled op, or an error. ``"reference"``: plain
            TensorFlow. ``"auto"``: the op where it can run, else the reference with one
            warning.

    Returns:
        The loss, float64 for float64 embeddings and float32 otherwise: a scalar, or
        ``[B]`` for ``reduction="none"``. With ``return_stats`` a pair of it and the
        statistics. An empty batch has loss 0, and so has a row whose candidates are all
        dropped. A row whose own document has ``doc_log_q`` infinity has infinite loss, and
        no gradient.

    Raises:
        ValueError: an argument is wrong; the message names it, and what is allowed.
        tf.errors.InvalidArgumentError: the same, found in a running graph; also an index
            outside ``[0, C)``. On a GPU, and in the reference under XLA, such a candidate
            is dropped instead.
        tf.errors.UnimplementedError: a compiled function, and the library for XLA is
            missing; the message says what would fix it.
        RuntimeError: ``implementation="native"`` cannot run here.

    Source:
        Sampled softmax over in-batch negatives with cosine logits, from the TensorFlow
        snippet "in-batch negative sampling" with its softmax on the right axis; logQ
        correction from Yi et al., "Sampling-bias-corrected neural modeling for large
        corpus item recommendations" (2019).
    """
    check_name("implementation", implementation, IMPLEMENTATIONS)
    return_stats = check_boolean("return_stats", return_stats)
    inputs = check_inputs(
        query,
        doc,
        num_negatives,
        negative_indices=negative_indices,
        sampler=sampler,
        seed=seed,
        scale=scale,
        temperature=temperature,
        margin=margin,
        negative_weight=negative_weight,
        mask_self=mask_self,
        doc_ids=doc_ids,
        query_ids=query_ids,
        doc_log_q=doc_log_q,
        sample_weight=sample_weight,
        normalize_over=normalize_over,
        reduction=reduction,
        cross_replica=cross_replica,
    )
    device = device_in_use()
    if _takes_native(device, implementation):
        compute: Compute = functools.partial(native_loss, on_gpu=device == "GPU")
    else:
        compute = reference_loss
    if cross_replica:
        compute = functools.partial(loss_across_replicas, compute=compute)
    loss, stats = compute(inputs, return_stats)
    return loss if stats is None else (loss, stats)


@without_autograph
def reference_negative_cosine_loss(
    query: Any, doc: Any, num_negatives: int | None = None, **options: Any
) -> Any:
    """The same loss in plain TensorFlow ops: any device, XLA included.

    It takes the arguments of ``fused_negative_cosine_loss`` except ``implementation``, and
    needs more time and memory. The native kernels are tested against it.

    Example:
        >>> query = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
        >>> doc = [[2.0, 0.0], [0.0, 3.0], [0.5, 0.5]]
        >>> loss = reference_negative_cosine_loss(query, doc, 2, seed=(1, 2))
        >>> round(float(loss), 4)
        0.0038

    Args:
        query: ``[B, D]``, float16, bfloat16, float32 or float64.
        doc: ``[C, D]``, the same dtype, ``C >= B``.
        num_negatives: K >= 1, the candidates drawn for each query.
        **options: as for ``fused_negative_cosine_loss``.

    Returns:
        The loss, or with ``return_stats`` the loss and a ``NegativeCosineStats``.

    Raises:
        ValueError: an argument is wrong; the message names it, and what is allowed.
        TypeError: an unknown option.
    """
    if "implementation" in options:
        raise TypeError("reference_negative_cosine_loss takes no implementation")
    return fused_negative_cosine_loss(
        query, doc, num_negatives, **options, implementation="reference"
    )


@without_autograph
def sample_negatives(
    batch_size: Any,
    num_candidates: Any,
    num_negatives: int | None,
    sampler: str = "shuffle",
    seed: Any = None,
) -> tf.Tensor:
    """The table of candidates that the loss uses for a seed, on every device.

    Example:
        >>> sample_negatives(3, 4, 2, "ring", seed=(1, 2)).shape
        TensorShape([3, 2])

    Args:
        batch_size: B, the number of queries: an integer, or a scalar int32 or int64
            tensor such as ``tf.shape(query)[0]``.
        num_candidates: C >= B, the number of documents; the same.
        num_negatives: K, an integer; for ``sampler="all"`` None or ``C - 1``.
        sampler: ``"shuffle"``, ``"ring"`` or ``"all"``.
        seed: two integers, or None for a fresh seed.

    Returns:
        int32 ``[B, K]``: row ``i`` holds the documents that query ``i`` meets, before any
        is dropped.

    Raises:
        ValueError: an argument is wrong; the message names it, and what is allowed.
        tf.errors.InvalidArgumentError: the same, found in a running graph.

    Source:
        Feistel permutations after Mitchell et al., "Bandwidth-optimal random shuffling
        for GPUs" (2021), evaluated at single points.
    """
    sampler = check_name("sampler", sampler, SAMPLERS)
    sizes = check_table_sizes(batch_size, num_candidates, num_negatives, sampler)
    drawn_by = None if sampler == "all" else check_seed(seed)
    checks = sizes.checks + seed_checks(drawn_by)
    with asserted(checks):
        table = candidate_table(
            sizes.batch_size,
            sizes.num_candidates,
            sizes.num_negatives,
            sampler,
            drawn_by,
        )
        # -1, no document, where XLA omitted a check and its condition does not hold.
        return tf.where(all_hold(checks), table, -1) if checks else table


@dataclass(frozen=True)
class Choice:
    """Whether ``auto`` takes the native op, and if not, why and what would fix it."""

    native: bool
    problem: str = ""
    fix: str = ""


def choose_implementation(device: str) -> Choice:
    """What ``auto`` takes on a kind of device."""
    library = native_library()
    if library.ops is None:
        return Choice(False, library.problem, library.fix)
    if device == "CPU":
        return Choice(True)
    if device == "GPU":
        problem = cuda_problem(library)
        return Choice(False, problem, cuda_fix(library)) if problem else Choice(True)
    problem = f"the native library has no kernel for the device {device}"
    return Choice(False, problem, ON_THE_CPU)


def compiles_with_xla(implementation: str = "auto") -> bool:
    """Whether the loss works in a compiled function, on the device in use."""
    if implementation == "reference":
        return True
    if choose_implementation(device_in_use()).native:
        return xla_kernel_available()
    return implementation == "auto"


def _takes_native(device: str, implementation: str) -> bool:
    if implementation == "reference":
        return False
    choice = choose_implementation(device)
    if choice.native:
        return True
    reason = with_fix(choice.problem, choice.fix)
    if implementation == "native":
        raise RuntimeError(f"implementation='native' cannot run: {reason}")
    _warn_once(f"negative_cosine uses the slower reference: {reason}")
    return False


@functools.cache
def _warn_once(message: str) -> None:
    warn(message, RuntimeWarning)
