from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

def negative_cosine_loss(
    query: Array,
    doc: Array,
    *,
    logit_scale: float = 20.0,
    num_negatives: int | None = None,
    sampler: str = "shuffle",
    seed: Array | None = None,
    negative_indices: Array | None = None,
    mask_self: bool = True,
    doc_ids: Array | None = None,
    query_ids: Array | None = None,
    margin: float = 0.0,
    doc_log_q: Array | None = None,
    sample_weight: Array | None = None,
    normalize_over: str = "candidates",
    reduction: str = "mean",
    loss_gradient: Array | None = None,
    embedding_offset: int = 0,
    allow_tf32: bool = False,
    statistics: bool = True,
) -> dict[str, Array]: ...
def device_info() -> dict[str, Any]: ...
def copy_bandwidth(num_bytes: int, rounds: int = 10) -> float: ...
def time_passes(
    query: Array,
    doc: Array,
    *,
    num_negatives: int,
    seed: NDArray[np.int64],
    training: bool = True,
    rounds: int = 10,
    steps: int = 10,
) -> list[float]: ...
