from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

def permute(
    values: Array,
    num_candidates: int,
    seeds: Array,
    numbers: Array,
    inverse: bool = False,
) -> NDArray[np.int32]: ...
def rows_that_drew(
    batch_size: int,
    num_candidates: int,
    num_negatives: int,
    seed: Array,
    num_threads: int = 1,
) -> tuple[NDArray[np.int64], list[NDArray[np.int32]]]: ...
def read_rows(
    matrix: NDArray[np.float32],
    indices: NDArray[np.int32],
    num_threads: int = 1,
) -> float: ...
