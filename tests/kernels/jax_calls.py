"""The loss in JAX: XLA's custom calls to the core, registered by the module _ffi_calls.

A test of the calls under a real XLA with no TensorFlow, not a product: the names and the
order of operands and results are those of csrc/xla/custom_calls.h.
"""

from __future__ import annotations

import functools
from typing import Any

import _ffi_calls
import jax
import jax.numpy as jnp
import numpy as np

from tests.support.cases import Array, Batch

# JAX would otherwise make 32-bit numbers of all others.
jax.config.update("jax_enable_x64", True)

FORWARD, GRADIENT = "negative_cosine_forward", "negative_cosine_gradient"
OPTIONAL = (
    "seed",
    "negative_indices",
    "doc_ids",
    "query_ids",
    "doc_log_q",
    "sample_weight",
)
OUTPUTS = (
    "loss",
    "row_loss",
    "positive_cosine",
    "saved_rows",
    "doc_inverse_norm",
    "row_scale_gradient",
    "query_direction",
    "num_kept",
    "positive_rank",
)
SAVED = (
    "row_loss",
    "saved_rows",
    "doc_inverse_norm",
    "row_scale_gradient",
    "query_direction",
)
GRADIENTS = ("query", "doc", "logit_scale", "sample_weight")


@functools.cache
def register(platform: str) -> None:
    """Tells XLA of the calls, once."""
    for target, capsule in _ffi_calls.handlers(platform).items():
        jax.ffi.register_ffi_target(target, capsule, platform=platform)


def allow_tf32(allowed: bool) -> None:
    """Whether a GPU may multiply float32 rows with ten bits of each element."""
    _ffi_calls.allow_tf32(allowed)


class Loss:
    """The loss of batches of one shape, with its own gradient."""

    def __init__(
        self, batch: Batch, source: str, options: dict[str, Any], platform: str
    ) -> None:
        register(platform)
        self.real = jnp.dtype(batch.real)
        self.shape = (batch.rows, batch.docs, batch.dim)
        self.dtype = jnp.dtype(batch.query.dtype)
        fixed = dict(options)
        self.logit_scale = fixed.pop("scale", 20.0) / fixed.pop("temperature", 1.0)
        self.inputs, self.attributes = split(batch, source, fixed)
        given = {"num_negatives": self.attributes["num_negatives"] or None}
        self.scratch = _ffi_calls.scratch_bytes(
            batch.query,
            batch.doc,
            **self.inputs,
            **{**self.attributes, **given},
            platform=platform,
        )
        self.attributes["given"] = np.array(
            [name in self.inputs for name in OPTIONAL], np.int64
        )
        self.value = jax.custom_vjp(self._loss)
        self.value.defvjp(self._forward, self._backward)

    def _call(self, target: str, results: list[Any], *operands: Any) -> Any:
        return jax.ffi.ffi_call(target, results)(*operands, **self.attributes)

    def _struct(self, *shape: int, dtype: Any = None) -> Any:
        return jax.ShapeDtypeStruct(shape, dtype or self.real)

    def _operands(self, query: Any, doc: Any, scale: Any, weight: Any) -> list[Any]:
        given = {**self.inputs, **({} if weight is None else {"sample_weight": weight})}
        return [query, doc, scale, *(given[name] for name in OPTIONAL if name in given)]

    def outputs(self, query: Any, doc: Any, scale: Any, weight: Any) -> dict[str, Any]:
        """All outputs of the forward pass, by name."""
        rows, docs, dim = self.shape
        loss = (rows,) if self.attributes["reduction"] == "none" else ()
        shapes = [loss, (rows,), (rows,), (rows, 4), (docs,), (rows,), (rows, dim)]
        results = [self._struct(*shape) for shape in shapes]
        results += [self._struct(rows, dtype=jnp.int32)] * 2
        results += [self._struct(self.scratch[0], dtype=jnp.int8)]
        operands = self._operands(query, doc, scale, weight)
        return dict(zip(OUTPUTS, self._call(FORWARD, results, *operands), strict=False))

    def _loss(self, query: Any, doc: Any, scale: Any, weight: Any) -> Any:
        return self.outputs(query, doc, scale, weight)["loss"]

    def _forward(self, *arguments: Any) -> Any:
        outputs = self.outputs(*arguments)
        return outputs["loss"], (arguments, [outputs[name] for name in SAVED])

    def _backward(self, kept: Any, loss_gradient: Any) -> Any:
        (query, doc, scale, weight), saved = kept
        rows, docs, dim = self.shape
        results = [
            self._struct(rows, dim, dtype=self.dtype),
            self._struct(docs, dim, dtype=self.dtype),
            self._struct(),
            self._struct(0 if weight is None else rows),
            self._struct(self.scratch[1], dtype=jnp.int8),
        ]
        operands = self._operands(query, doc, scale, weight)
        gradients = self._call(GRADIENT, results, *operands, loss_gradient, *saved)
        return (*gradients[:3], None if weight is None else gradients[3])

    def arguments(self, batch: Batch) -> list[Any]:
        """What the loss is a function of: query, doc, the logit scale, weights or None."""
        weight = self.inputs.get("sample_weight")
        return [batch.query, batch.doc, self.real.type(self.logit_scale), weight]

    def results(self, batch: Batch) -> dict[str, Array]:
        """Outputs and gradients of a batch from one compiled program, as arrays by name."""

        @jax.jit
        def step(*arguments: Any) -> Any:
            loss, pull_back = jax.vjp(self.value, *arguments)
            return self.outputs(*arguments), pull_back(jnp.ones_like(loss))

        outputs, gradients = step(*self.arguments(batch))
        named = zip(GRADIENTS, gradients, strict=True)
        outputs |= {f"{name}_gradient": value for name, value in named if value is not None}
        return self.with_scale_and_temperature(
            {name: np.asarray(value) for name, value in outputs.items()}
        )

    def with_scale_and_temperature(self, results: dict[str, Array]) -> dict[str, Array]:
        """By the logit scale's gradient those of what it is made of, temperature 1."""
        by_logit_scale = results["logit_scale_gradient"]
        results["scale_gradient"] = by_logit_scale
        results["temperature_gradient"] = -by_logit_scale * self.logit_scale
        return results


def split(
    batch: Batch, source: str, options: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays among the options, and the attributes that stand for the others."""
    inputs = {name: options.pop(name) for name in OPTIONAL if name in options}
    attributes = {
        "num_negatives": np.int64(0),
        "sampler": "shuffle",
        "mask_self": True,
        "margin": np.float64(0),
        "negative_weight": np.float64(1),
        "normalize_over": "candidates",
        "reduction": "mean",
        **options,
    }
    for name in ("margin", "negative_weight"):
        attributes[name] = np.float64(attributes[name])
    if source == "indices":
        inputs["negative_indices"] = batch.indices
    else:
        count = batch.docs - 1 if source == "all" else batch.k
        attributes |= {"sampler": source, "num_negatives": np.int64(count)}
        inputs["seed"] = np.array(batch.seed)
    return inputs, attributes
