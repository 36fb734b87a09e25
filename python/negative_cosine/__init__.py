"""A fused TensorFlow op for the sampled cosine softmax loss of two-tower models."""

from typing import Any

from negative_cosine import _build_info

__all__ = [
    "DocumentFrequency",
    "DocumentQueue",
    "NegativeCosineLayer",
    "NegativeCosineLoss",
    "NegativeCosineStats",
    "RetrievalMetrics",
    "fused_negative_cosine_loss",
    "hardest_negatives",
    "mean_reciprocal_rank",
    "ndcg_at_k",
    "recall_at_k",
    "reference_negative_cosine_loss",
    "retrieval_ranks",
    "sample_negatives",
    "top_documents",
]
__version__ = "0.1.0"

if _build_info.has_numpy_modules_alone():
    from negative_cosine._warnings import warn

    warn(_build_info.what_is_there(), UserWarning)

    def __getattr__(name: str) -> Any:
        if name in __all__:
            raise ImportError(_build_info.what_is_there(), name=name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

else:
    _build_info.require_tensorflow()

    from negative_cosine._article import NegativeCosineLayer
    from negative_cosine._catalogue import retrieval_ranks, top_documents
    from negative_cosine._frequency import DocumentFrequency
    from negative_cosine._gradient import register_gradients
    from negative_cosine._hard_negatives import hardest_negatives
    from negative_cosine._layer import NegativeCosineLoss
    from negative_cosine._loader import native_library, xla_problem
    from negative_cosine._loss import (
        fused_negative_cosine_loss,
        reference_negative_cosine_loss,
        sample_negatives,
    )
    from negative_cosine._queue import DocumentQueue
    from negative_cosine._rank_metrics import mean_reciprocal_rank, ndcg_at_k, recall_at_k
    from negative_cosine._retrieval_metrics import RetrievalMetrics
    from negative_cosine._statistics import NegativeCosineStats

    # A SavedModel that holds the op loads once the op is registered, and XLA knows of it
    # from then on: open the libraries now.
    native_library()
    xla_problem()
    register_gradients()
