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
    negative_weight: float = 1.0,
    doc_log_q: Array | None = None,
    sample_weight: Array | None = None,
    normalize_over: str = "candidates",
    reduction: str = "mean",
    loss_gradient: Array | None = None,
    num_threads: int = 1,
) -> dict[str, Array]: ...
def sample_negatives(
    batch_size: int,
    num_candidates: int,
    num_negatives: int,
    seed_0: int,
    seed_1: int,
    sampler: str = "shuffle",
) -> NDArray[np.int32]: ...
def instruction_set() -> str: ...
