"""The loss in functions that XLA compiles: one custom call for each pass, same numbers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import keras
import negative_cosine
import numpy as np
import pytest
import tensorflow as tf
from negative_cosine import (
    DocumentFrequency,
    DocumentQueue,
    NegativeCosineLoss,
    fused_negative_cosine_loss,
)

from tests.loss.test_parity import OPTIONS
from tests.support.cases import (
    DTYPES,
    Batch,
    assert_gradients_close,
    assert_values_close,
    run_oracle,
)
from tests.support.installed import XLA_LIBRARY, installation, start_with
from tests.support.tensorflow_runs import run_loss

PACKAGE = Path(negative_cosine.__file__).parent


def check(batch: Batch, source: str, options: dict[str, Any]) -> None:
    """Compiled native results against the oracle, judged as those of the op are."""
    expected = run_oracle(batch, source, options)
    native = run_loss(batch, source, options, "native", "xla")
    assert_values_close(native, expected, batch.dtype)
    assert_gradients_close(native, expected, batch.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("source", ["shuffle", "ring", "all", "indices"])
def test_compiled_values_and_gradients_match_the_oracle(source: str, dtype: str) -> None:
    batch = Batch((37, 60, 100, 31), dtype)
    check(batch, source, batch.only("scale", "temperature"))


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("source", ["shuffle", "indices"])
def test_each_option_alone_matches_the_oracle_compiled(source: str, option: str) -> None:
    batch = Batch((37, 41, 17, 5), "float32")
    check(batch, source, batch.only(option))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_each_reduction_matches_the_oracle_compiled(reduction: str) -> None:
    batch = Batch((37, 41, 17, 5), "float64")
    options = {**batch.only("sample_weight", "doc_log_q"), "reduction": reduction}
    check(batch, "shuffle", options)


def embeddings(rows: int = 64, dim: int = 16) -> tuple[tf.Tensor, tf.Tensor]:
    random = np.random.default_rng(0)
    query, doc = random.normal(size=(2, rows, dim)).astype(np.float32)
    return tf.constant(query), tf.constant(doc)


def training_step(query: tf.Tensor, doc: tf.Tensor, **options: Any) -> Any:
    with tf.GradientTape() as tape:
        tape.watch([query, doc])
        loss = fused_negative_cosine_loss(
            query, doc, num_negatives=5, implementation="native", **options
        )
    return loss, tape.gradient(loss, [query, doc])


def test_compiled_and_eager_results_have_the_same_bits() -> None:
    query, doc = embeddings()
    compiled = tf.function(training_step, jit_compile=True)
    eager = training_step(query, doc, seed=(1, 2))
    for one, other in zip(
        tf.nest.flatten(compiled(query, doc, seed=(1, 2))),
        tf.nest.flatten(eager),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_the_program_holds_one_custom_call_for_each_pass_and_no_gather() -> None:
    compiled = tf.function(training_step, jit_compile=True)
    program = compiled.experimental_get_compiler_ir(*embeddings())(stage="optimized_hlo")
    calls = [line for line in program.splitlines() if "custom-call(" in line]
    assert [line for line in calls if 'target="negative_cosine_forward"' in line]
    assert len([line for line in calls if "negative_cosine_forward" in line]) == 1
    assert len([line for line in calls if "negative_cosine_gradient" in line]) == 1
    assert " gather(" not in program


def test_rows_that_xla_would_rather_keep_as_columns_arrive_as_rows() -> None:
    query, doc = embeddings()

    def step(query: tf.Tensor, doc: tf.Tensor) -> Any:
        columns = tf.matmul(tf.eye(16), doc, transpose_b=True)
        doc = tf.transpose(columns)
        return training_step(tf.transpose(tf.transpose(query) * 2), doc, seed=(1, 2))

    compiled = tf.function(step, jit_compile=True)(query, doc)
    for one, other in zip(
        tf.nest.flatten(compiled), tf.nest.flatten(step(query, doc)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-7)


def test_each_step_draws_anew() -> None:
    query, doc = embeddings()
    compiled = tf.function(training_step, jit_compile=True)
    losses = {float(compiled(query, doc)[0]) for _ in range(5)}
    assert len(losses) == 5


def test_a_loop_in_the_program_draws_anew_in_each_iteration() -> None:
    query, doc = embeddings()

    @tf.function(jit_compile=True)
    def losses() -> tf.Tensor:
        results = tf.TensorArray(tf.float32, 4)
        for i in tf.range(4):
            results = results.write(i, training_step(query, doc)[0])
        return results.stack()

    assert len(set(losses().numpy().tolist())) == 4


def test_a_trainable_temperature_gets_its_gradient() -> None:
    query, doc = embeddings()
    temperature = tf.Variable(0.5)

    def gradient() -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = fused_negative_cosine_loss(
                query,
                doc,
                num_negatives=5,
                seed=(1, 2),
                temperature=temperature,
                implementation="native",
            )
        return tape.gradient(loss, temperature)

    compiled = tf.function(gradient, jit_compile=True)()
    np.testing.assert_allclose(compiled, gradient(), rtol=1e-6)


def test_a_wrong_size_is_refused_while_compiling() -> None:
    query, doc = embeddings()
    signature = [tf.TensorSpec([None, 16]), tf.TensorSpec([None, 16])]
    compiled = tf.function(training_step, jit_compile=True, input_signature=signature)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="doc must have at least as many rows"
    ):
        compiled(query, doc[:10])


# Sizes that do not fit, by what brings them.
MISFITS: dict[str, dict[str, Any]] = {
    "too few documents": {"doc": tf.ones([5, 4])},
    "too many candidates": {"num_negatives": 8, "sampler": "ring"},
    "not all candidates": {"num_negatives": 3, "sampler": "all"},
    "ids": {"doc_ids": tf.range(5)},
    "query ids": {"query_ids": tf.range(3)},
    "logQ": {"doc_log_q": tf.zeros([1])},
    "weights": {"sample_weight": tf.ones([1])},
    "a seed": {"seed": tf.constant([1, 2, 3])},
    "a table": {"num_negatives": None, "negative_indices": tf.ones([1, 2], tf.int32)},
}


@pytest.mark.parametrize("misfit", MISFITS)
@pytest.mark.parametrize("implementation", ["native", "reference"])
def test_sizes_that_only_the_program_knows_never_give_a_plausible_loss(
    implementation: str, misfit: str
) -> None:
    arguments: dict[str, Any] = {
        "query": tf.eye(6, 4),
        "doc": tf.eye(6, 4),
        "num_negatives": 2,
        "seed": tf.constant([1, 2]),
        **MISFITS[misfit],
    }
    tensors = {name: value for name, value in arguments.items() if tf.is_tensor(value)}
    fixed = {name: value for name, value in arguments.items() if name not in tensors}
    signature = {
        name: tf.TensorSpec([None] * value.shape.rank, value.dtype)
        for name, value in tensors.items()
    }

    def loss(tensors: dict[str, tf.Tensor]) -> tf.Tensor:
        return fused_negative_cosine_loss(**fixed, **tensors, implementation=implementation)

    compiled = tf.function(
        loss, jit_compile=True, input_signature=[signature], autograph=False
    )
    try:
        found = compiled(tensors)
    except tf.errors.OpError:  # by the op, or by XLA
        return
    assert np.isnan(found)


def test_an_index_outside_the_documents_raises_with_its_position() -> None:
    query, doc = embeddings(rows=4)

    @tf.function(jit_compile=True)
    def loss(indices: tf.Tensor) -> tf.Tensor:
        return fused_negative_cosine_loss(
            query, doc, negative_indices=indices, implementation="native"
        )

    assert np.isfinite(loss(tf.constant([[1], [2], [3], [0]])))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"got 4 at position \[2, 0\]"):
        loss(tf.constant([[1], [2], [4], [0]]))


@pytest.mark.parametrize("compiled", [False, True])
def test_tracing_warns_of_nothing(
    compiled: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    tf.function(training_step, jit_compile=compiled)(*embeddings())
    assert "AutoGraph" not in capfd.readouterr().err


def fitted(jit_compile: bool, policy: str) -> dict[str, list[float]]:
    """What Keras reports of two epochs of a model that holds the loss."""
    keras.utils.set_random_seed(0)
    query, doc = keras.Input([16]), keras.Input([16])
    towers = [keras.layers.Dense(8, dtype=policy)(rows) for rows in (query, doc)]
    loss = NegativeCosineLoss(5, seed=(1, 2), learn_temperature=True)
    model = keras.Model([query, doc], loss(towers))
    model.compile("adam", jit_compile=jit_compile)
    rows = [rows.numpy() for rows in embeddings(rows=60)]
    return model.fit(rows, batch_size=16, epochs=2, shuffle=False, verbose=0).history


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_a_compiled_keras_model_trains_as_one_that_is_not(policy: str) -> None:
    compiled, plain = fitted(True, policy), fitted(False, policy)
    assert sorted(compiled) == sorted(plain)
    tolerance = 1e-4 if policy == "float32" else 2e-2
    for name, values in compiled.items():
        np.testing.assert_allclose(values, plain[name], rtol=tolerance, atol=tolerance)


def test_a_queue_and_document_frequencies_are_compiled_too() -> None:
    query = keras.Input([16], name="query")
    ids = keras.Input([], dtype="int64", name="doc_ids")
    candidates = {
        "doc": keras.layers.Embedding(50, 8)(ids),
        "doc_ids": ids,
        "doc_log_q": DocumentFrequency(1000)(ids),
    }
    later = DocumentQueue(32)(candidates)
    loss = NegativeCosineLoss(5)({"query": keras.layers.Dense(8)(query), **later})
    model = keras.Model({"query": query, "doc_ids": ids}, loss)
    model.compile("adam", jit_compile=True)
    data = {"query": embeddings()[0].numpy(), "doc_ids": np.arange(64) % 50}
    history = model.fit(data, batch_size=16, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all()


def run_script(script: str, package: Path) -> subprocess.CompletedProcess[str]:
    """Runs Python code on a copy of the package, quietly."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
    return start_with(package, "-c", script, variables=quiet, timeout=180)


def test_the_package_may_be_imported_after_another_function_was_compiled() -> None:
    script = """
import tensorflow as tf
print(tf.function(lambda x: x + 1, jit_compile=True)(tf.ones([2])))
from negative_cosine import fused_negative_cosine_loss
loss = tf.function(fused_negative_cosine_loss, jit_compile=True)
print("loss", float(loss(tf.eye(4), tf.eye(4), 2, implementation="native")))
"""
    assert "loss" in run_script(script, PACKAGE).stdout


@pytest.fixture
def package_without_xla(tmp_path: Path) -> Path:
    """A copy of the package that was built without the library for XLA."""
    package = installation(tmp_path)
    (package / XLA_LIBRARY).unlink()
    info = package / "_build_info.json"
    build_info = json.loads(info.read_text())
    assert build_info["xla"] == "built"
    info.write_text(json.dumps({**build_info, "xla": "NEGATIVE_COSINE_XLA=0"}))
    return package


COMPILED_LOSS = """
import tensorflow as tf
from negative_cosine import fused_negative_cosine_loss
loss = tf.function(fused_negative_cosine_loss, jit_compile={compiled})
print("loss", float(loss(tf.eye(4), tf.eye(4), 2)))
"""


def test_without_the_library_a_compiled_function_says_what_would_mend_it(
    package_without_xla: Path,
) -> None:
    result = run_script(COMPILED_LOSS.format(compiled=True), package_without_xla)
    assert result.returncode != 0
    assert "_negative_cosine_xla.so is not loaded" in result.stderr
    assert "reinstall negative-cosine" in result.stderr
    assert "implementation='reference'" in result.stderr


def test_without_the_library_other_functions_run_natively(
    package_without_xla: Path,
) -> None:
    result = run_script(COMPILED_LOSS.format(compiled=False), package_without_xla)
    assert "loss" in result.stdout
    assert "negative_cosine" not in result.stderr


def test_without_the_library_clusters_that_tensorflow_forms_run_uncompiled(
    package_without_xla: Path,
) -> None:
    script = COMPILED_LOSS.format(compiled=False)
    result = run_script(
        "import os; os.environ['TF_XLA_FLAGS'] = "
        "'--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit'\n" + script,
        package_without_xla,
    )
    assert "loss" in result.stdout, result.stderr


EVERY_OP_COMPILED = """
import os
os.environ["TF_XLA_FLAGS"] = (
    "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit --tf_xla_min_cluster_size=1"
)
import numpy as np, tensorflow as tf
from negative_cosine import fused_negative_cosine_loss

def gradients(implementation):
    query, doc = (tf.random.stateless_normal([6, 4], [n, 0]) for n in (1, 2))
    with tf.GradientTape() as tape:
        tape.watch([query, doc])
        loss = fused_negative_cosine_loss(
            query, doc, 3, seed=(1, 2), implementation=implementation
        )
    return [loss, *tape.gradient(loss, [query, doc])]

for native, reference in zip(gradients("native"), gradients("reference")):
    np.testing.assert_allclose(native, reference, rtol=1e-4, atol=1e-6)
print("agree")
"""


def test_eager_calls_of_which_tensorflow_compiles_each_op_have_their_gradient() -> None:
    result = run_script(EVERY_OP_COMPILED, PACKAGE)
    assert "agree" in result.stdout, result.stderr


LAYER_SUPPORTS_JIT = """
from negative_cosine import NegativeCosineLayer
print("supports_jit", NegativeCosineLayer(4, normalize_over="candidates").supports_jit)
"""


def test_keras_compiles_the_articles_layer_only_where_xla_knows_the_op(
    package_without_xla: Path,
) -> None:
    without = run_script(LAYER_SUPPORTS_JIT, package_without_xla)
    assert "supports_jit False" in without.stdout
    assert "supports_jit True" in run_script(LAYER_SUPPORTS_JIT, PACKAGE).stdout


def test_the_report_says_why_there_is_no_library(package_without_xla: Path) -> None:
    result = run_script(
        "from negative_cosine import __main__; __main__.main()", package_without_xla
    )
    assert "the library for XLA was not built: NEGATIVE_COSINE_XLA=0" in result.stdout
