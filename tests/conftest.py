"""Settings for every test: quiet TensorFlow, two threads, two logical CPUs."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# The CUDA core and compute-sanitizer need memory beside TensorFlow.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, settings

tf.config.threading.set_intra_op_parallelism_threads(2)
# TensorFlow decides it by what runs first: in a worker that began in a graph, what asks for
# a device that is not there would fail.
tf.config.set_soft_device_placement(True)
# A tf.distribute strategy takes them for two devices: see test_replicas.py.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)


# The usual profile draws the same examples each time, and stops at the first that fails;
# the nightly one draws new ones, and looks for the simplest that fails.
DRAW = (Phase.explicit, Phase.reuse, Phase.generate)
for name, nightly in (("nightly", True), ("usual", False)):
    settings.register_profile(
        name,
        derandomize=not nightly,
        phases=(*DRAW, Phase.shrink) if nightly else DRAW,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    settings.load_profile(name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked gpu run where there is a GPU, nightly ones where -m names them."""
    if "nightly" not in config.getoption("-m"):
        nightly = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=nightly)
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]
    if tf.config.list_physical_devices("GPU"):
        return
    skip = pytest.mark.skip(reason="TensorFlow sees no GPU on this machine")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(params=["eager", "graph"])
def mode(request: pytest.FixtureRequest) -> str:
    """Eager execution, and a graph that does not know the batch size."""
    return str(request.param)
