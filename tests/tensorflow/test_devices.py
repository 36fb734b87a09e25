"""On which kind of device the loss runs is read off the scopes, and no kernel is missed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import _device, _loss, fused_negative_cosine_loss

See = Callable[[str], None]


@pytest.fixture
def see(monkeypatch: pytest.MonkeyPatch) -> See:
    """Has TensorFlow see other devices than this machine's."""

    def change(kinds: str) -> None:
        devices = [
            tf.config.LogicalDevice(f"/device:{kind}:0", kind) for kind in kinds.split()
        ]
        monkeypatch.setattr(tf.config, "list_logical_devices", lambda: devices)

    return change


def eagerly(ask: Callable[[], None]) -> None:
    ask()


def in_a_function(ask: Callable[[], None]) -> None:
    tf.function(ask, autograph=False).get_concrete_function()


def in_a_graph(ask: Callable[[], None]) -> None:  # of TensorFlow 1
    with tf.Graph().as_default():
        ask()


WAYS = [eagerly, in_a_function, in_a_graph]


def devices_under(way: Callable[..., None], *scopes: str | None) -> list[str]:
    """The kinds of device that are in use under each scope."""
    found = []

    def ask() -> None:
        for scope in scopes:
            with tf.device(scope):
                found.append(_device.device_in_use())

    way(ask)
    return found


@pytest.mark.parametrize("way", WAYS)
def test_the_device_scope_says_where_the_loss_runs(
    way: Callable[..., None], see: See
) -> None:
    see("CPU GPU TPU XLA_CPU")
    scopes = ("CPU", "/gpu:1", "GPU:0", "TPU:0", "/job:w/task:1/device:XLA_CPU:0")
    assert devices_under(way, *scopes) == ["CPU", "GPU", "GPU", "TPU", "XLA_CPU"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("kinds", "kind"), [("CPU", "CPU"), ("CPU GPU", "GPU"), ("CPU TPU", "CPU")]
)
def test_without_a_scope_the_loss_runs_on_a_gpu_where_there_is_one(
    kinds: str, kind: str, way: Callable[..., None], see: See
) -> None:
    see(kinds)
    assert devices_under(way, None) == [kind]


@pytest.mark.parametrize(
    ("way", "kind"), [(eagerly, "CPU"), (in_a_function, "GPU"), (in_a_graph, "GPU")]
)
def test_a_scope_for_a_job_alone_is_one_for_its_cpu_in_eager_calls_as_for_tensorflow(
    way: Callable[..., None], kind: str, see: See
) -> None:
    see("CPU GPU")
    assert devices_under(way, "/job:localhost/task:0") == [kind]


@pytest.mark.parametrize("way", WAYS)
def test_of_nested_scopes_the_inner_one_says_it(way: Callable[..., None], see: See) -> None:
    see("CPU GPU")
    found = []

    def ask() -> None:
        for scope in ("CPU", "/job:localhost/task:0", None):
            with tf.device("GPU:0"), tf.device(scope):
                found.append(_device.device_in_use())

    way(ask)
    assert found == ["CPU", "GPU", "GPU"]


def call(ask: Callable[[], None]) -> None:
    tf.function(ask, autograph=False)()


def branch(ask: Callable[[], None]) -> None:
    def asks() -> float:
        ask()
        return 1.0

    tf.cond(tf.constant(True), asks, lambda: 0.0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("called", [call, branch])
def test_a_function_and_a_branch_have_the_scope_of_their_call(
    called: Callable[..., None], way: Callable[..., None], see: See
) -> None:
    see("CPU GPU")
    found = []

    def step() -> None:
        with tf.device("CPU"):
            called(lambda: found.append(_device.device_in_use()))

    way(step)
    assert found == ["CPU"]


def test_a_device_function_of_tensorflow_1_is_asked_for_the_op(see: See) -> None:
    see("CPU GPU")
    place = tf.compat.v1.train.replica_device_setter(
        ps_tasks=1, worker_device="/job:worker/device:CPU:0"
    )
    with tf.Graph().as_default(), tf.compat.v1.device(place):
        assert _device.device_in_use() == "CPU"


def test_a_device_function_may_look_at_the_ops_inputs_and_graph(see: See) -> None:
    see("CPU GPU")

    def place(op: Any) -> str:
        return "" if op.inputs or op.graph is None else "/device:CPU:0"

    with tf.Graph().as_default(), tf.compat.v1.device(place):
        assert _device.device_in_use() == "CPU"


@pytest.mark.parametrize("way", [eagerly, in_a_function])
def test_a_replica_has_its_own_device(way: Callable[..., None], see: See) -> None:
    see("CPU GPU")
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    found = []
    way(lambda: strategy.run(lambda: found.append(_device.device_in_use())))
    assert found == ["CPU", "CPU"]


@pytest.mark.parametrize("way", [in_a_function, in_a_graph])
def test_asking_for_the_device_adds_nothing_to_a_graph(
    way: Callable[..., None], see: See
) -> None:
    see("CPU GPU TPU")
    graphs = []

    def ask() -> None:
        for scope in (None, "GPU:0", "TPU:0"):
            with tf.device(scope):
                _device.device_in_use()
        graphs.append(tf.compat.v1.get_default_graph())

    way(ask)
    assert graphs[0].get_operations() == []


@pytest.mark.parametrize("way", WAYS)
def test_where_there_is_no_gpu_a_scope_for_one_runs_on_the_cpu(
    way: Callable[..., None], see: See
) -> None:
    see("CPU")
    assert devices_under(way, "GPU:0", "/job:worker/device:GPU:1") == ["CPU", "CPU"]


def test_where_there_is_no_tpu_a_scope_for_one_holds_in_graphs_alone(see: See) -> None:
    # A graph may go elsewhere. An eager op runs here, by TensorFlow's soft placement.
    see("CPU")
    assert devices_under(in_a_function, "TPU:0") == ["TPU"]
    assert devices_under(eagerly, "TPU:0") == ["CPU"]
    with tf.device("/device:TPU:0"):
        rows = tf.eye(4)
        loss = fused_negative_cosine_loss(
            rows, rows, sampler="all", implementation="native"
        )
    assert loss.device.endswith("CPU:0")


TPU_STRATEGIES = [tf.distribute.TPUStrategy, tf.distribute.experimental.TPUStrategy]


@pytest.mark.parametrize("kind", TPU_STRATEGIES)
def test_under_a_strategy_for_tpus_the_loss_runs_on_one_but_where_the_cpu_is_asked_for(
    kind: Any, see: See, monkeypatch: pytest.MonkeyPatch
) -> None:
    see("CPU TPU")
    # A real one looks for its TPUs when it is made.
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: object.__new__(kind))
    monkeypatch.setattr(tf.distribute, "in_cross_replica_context", lambda: True)
    assert devices_under(eagerly, None, "CPU", "TPU:0") == ["TPU", "CPU", "TPU"]


def test_a_replica_of_a_strategy_for_tpus_runs_on_one_whatever_its_caller_asked_for(
    see: See, monkeypatch: pytest.MonkeyPatch
) -> None:
    see("CPU TPU")
    strategy = object.__new__(tf.distribute.TPUStrategy)
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: strategy)
    monkeypatch.setattr(tf.distribute, "in_cross_replica_context", lambda: False)
    cores = ("/device:TPU_REPLICATED_CORE:0", "CPU", None)
    assert devices_under(in_a_function, *cores) == ["TPU", "TPU", "TPU"]


def losses_on(scope: str, implementation: str) -> tf.types.experimental.GenericFunction:
    """A function of two losses on a device."""

    @tf.function(autograph=False)
    def losses(rows: tf.Tensor) -> Any:
        with tf.device(scope):
            return [
                fused_negative_cosine_loss(
                    rows, rows, sampler="all", implementation=implementation
                )
                for _ in range(2)
            ]

    return losses


@pytest.mark.parametrize("kinds", ["CPU", "CPU TPU"])
def test_on_a_device_without_kernels_auto_takes_the_reference_and_warns_once(
    kinds: str, see: See
) -> None:
    see(kinds)
    _loss._warn_once.cache_clear()
    losses = losses_on("/device:TPU:0", "auto")
    with pytest.warns(RuntimeWarning) as caught:
        graph = losses.get_concrete_function(tf.TensorSpec([4, 4])).graph
    (message,) = [
        str(one.message) for one in caught if "negative_cosine" in str(one.message)
    ]
    assert message == (
        "negative_cosine uses the slower reference: the native library has no kernel for "
        "the device TPU. To fix it, place the loss on the CPU with tf.device('CPU'), or "
        "use implementation='reference' to accept it."
    )
    assert not [op for op in graph.get_operations() if op.type == "NegativeCosineLoss"]
    expected = np.log(1 + 3 * np.exp(-20))
    np.testing.assert_allclose(losses(tf.eye(4))[0], expected, rtol=1e-4)


@pytest.mark.parametrize("kinds", ["CPU", "CPU TPU XLA_CPU"])
@pytest.mark.parametrize("scope", ["/device:TPU:0", "/device:XLA_CPU:0"])
def test_on_a_device_without_kernels_native_raises_by_its_name(
    scope: str, kinds: str, see: See
) -> None:
    see(kinds)
    message = f"native' cannot run: .* for the device {scope.split(':')[1]}\\."
    with pytest.raises(RuntimeError, match=message):
        losses_on(scope, "native")(tf.eye(4))


def test_on_the_cpu_beside_other_devices_the_op_runs_without_a_word(see: See) -> None:
    see("CPU GPU TPU")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function = losses_on("CPU", "auto").get_concrete_function(tf.TensorSpec([4, 4]))
    types = [op.type for op in function.graph.get_operations()]
    assert types.count("NegativeCosineLoss") == 2


@pytest.mark.parametrize(
    ("implementation", "compiles"),
    [("auto", True), ("native", False), ("reference", True)],
)
def test_on_a_device_without_kernels_the_reference_alone_compiles(
    implementation: str, compiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_loss, "device_in_use", lambda: "TPU")
    assert _loss.compiles_with_xla(implementation) is compiles
