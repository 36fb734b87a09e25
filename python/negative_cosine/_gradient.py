"""The gradient of the native op, registered with TensorFlow when this is imported."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from negative_cosine._loader import native_library

_OPTIONAL_INPUTS = (
    ("seed", "num_seeds"),
    ("negative_indices", "num_tables"),
    ("doc_ids", "num_doc_ids"),
    ("query_ids", "num_query_ids"),
    ("doc_log_q", "num_log_q"),
    ("sample_weight", "num_weights"),
)


def register_gradients() -> None:
    """Registers both gradients; does nothing where they are registered already."""
    try:
        tf.RegisterGradient("NegativeCosineLoss")(_loss_gradient)
        tf.RegisterGradient("NegativeCosineLossGrad")(_second_gradient)
    except KeyError:
        pass  # this module was imported a second time, by a reload


def _loss_gradient(op: Any, loss_gradient: tf.Tensor, *_: Any) -> list[Any]:
    """Gradients by input of ``NegativeCosineLoss``; None for what has none."""
    ops = native_library().ops
    assert ops is not None, "the op exists, so its library is open"
    arguments = _op_arguments(op)
    options = {
        name: _text(op.get_attr(name))
        for name in (
            "num_negatives",
            "sampler",
            "mask_self",
            "normalize_over",
            "reduction",
        )
    }
    _, row_loss, _, saved_rows, doc_norm, scale_gradient, query_direction, *_ = op.outputs
    gradients = ops.negative_cosine_loss_grad(
        **arguments,
        loss_gradient=loss_gradient,
        row_loss=row_loss,
        saved_rows=saved_rows,
        doc_inverse_norm=doc_norm,
        row_scale_gradient=scale_gradient,
        query_direction=query_direction,
        **options,
    )
    by_input: list[Any] = [None] * len(op.inputs)
    by_input[0] = gradients.query_gradient
    by_input[1] = gradients.doc_gradient
    by_input[2] = gradients.logit_scale_gradient
    if arguments["sample_weight"]:
        by_input[-1] = gradients.sample_weight_gradient
    return by_input


def _second_gradient(*_: Any) -> None:
    raise LookupError(
        "the native negative cosine loss has first derivatives only; for second "
        "derivatives use implementation='reference'"
    )


def _op_arguments(op: Any) -> dict[str, Any]:
    query, doc, logit_scale, margin, negative_weight, *rest = op.inputs
    arguments = {
        "query": query,
        "doc": doc,
        "logit_scale": logit_scale,
        "margin": margin,
        "negative_weight": negative_weight,
    }
    for name, count in _OPTIONAL_INPUTS:
        length = op.get_attr(count)
        arguments[name], rest = list(rest[:length]), rest[length:]
    return arguments


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
