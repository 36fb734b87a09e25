from typing import Any

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
    embedding_offset: int = 0,
    allow_tf32: bool = False,
    statistics: bool = True,
) -> dict[str, Array]: ...
def prepare_step(
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
    training: bool = True,
    statistics: bool = True,
    allow_tf32: bool = False,
) -> PreparedStep: ...

class PreparedStep:
    def launch(self, count: int = 1, how: str = "plain") -> None: ...
    def wait(self) -> None: ...
    def results(self) -> dict[str, Array]: ...
    def spoil_results(self) -> None: ...
    def milliseconds(
        self,
        samples: int = 30,
        steps: int = 1,
        how: str = "plain",
        flush_bytes: int = 0,
    ) -> list[float]: ...
    @property
    def bytes_beside_inputs(self) -> int: ...

def device_info() -> dict[str, Any]: ...
def copy_bandwidth(num_bytes: int, rounds: int = 10) -> float: ...
