"""Settings for every test: what the kernels run on, TensorFlow's threads and CPUs."""

import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# The CUDA core and compute-sanitizer need memory beside TensorFlow.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.support import cores

try:
    import tensorflow as tf
except ImportError:
    tf = None

# What these import may not be installed; there are no tests in them.
collect_ignore = ["benchmarks/interpreted_kernels.py", "kernels/jax_calls.py"]

if tf is None:
    # The kernels' tests need none.
    folders = (path for path in Path(__file__).parent.iterdir() if path.is_dir())
    collect_ignore += [folder.name for folder in folders if folder.name != "kernels"]
else:
    tf.config.threading.set_intra_op_parallelism_threads(2)
    # TensorFlow decides it by what runs first: in a worker that began in a graph, what asks
    # for a device that is not there would fail.
    tf.config.set_soft_device_placement(True)
    # A tf.distribute strategy takes them for two devices: see tensorflow/test_replicas.py.
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


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--core``, for the tests of the kernels."""
    parser.addoption(
        "--core",
        choices=cores.NAMES,
        default=cores.NAMES[0],
        help="of the tests in tests/kernels",
    )


def pytest_report_header(config: pytest.Config) -> str:
    """What the numbers of tests depend on."""
    without = ", no TensorFlow: the tests of the kernels alone" if tf is None else ""
    return f"core: {config.getoption('--core')}{without}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests run where their marks say: by ``--core``, ``-m`` and what TensorFlow sees."""
    leave_out(config, items, lambda item: not runs_on_core(item, config))
    if "nightly" not in config.getoption("-m"):
        leave_out(config, items, lambda item: bool(item.get_closest_marker("nightly")))
    if tf is None or tf.config.list_physical_devices("GPU"):
        return
    skip = pytest.mark.skip(reason="TensorFlow sees no GPU on this machine")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


def runs_on_core(item: pytest.Item, config: pytest.Config) -> bool:
    """Whether a test is for the core that was chosen; most are for any."""
    mark = item.get_closest_marker("cores")
    return mark is None or config.getoption("--core") in mark.args


def leave_out(
    config: pytest.Config, items: list[pytest.Item], unwanted: Callable[[pytest.Item], bool]
) -> None:
    """Deselects some tests."""
    config.hook.pytest_deselected(items=[item for item in items if unwanted(item)])
    items[:] = [item for item in items if not unwanted(item)]


@pytest.fixture(scope="session")
def core(request: pytest.FixtureRequest) -> cores.Core:
    """What ``--core`` names."""
    return cores.open_core(request.config.getoption("--core"))


@pytest.fixture(params=["eager", "graph"])
def mode(request: pytest.FixtureRequest) -> str:
    """Eager execution, and a graph that does not know the batch size."""
    return str(request.param)
