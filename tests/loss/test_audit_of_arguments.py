"""Every public argument in every form: the judge's numbers, or a refusal by name.

The arguments come from the signatures, so that a new one fails here until ``KINDS`` says
what it is. The forms and the rule of which are right come from its kind.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import negative_cosine
import numpy as np
import pytest
import tensorflow as tf

from tests.keras import test_audit_of_layers
from tests.loss import argument_forms as forms
from tests.loss import audit_runs as runs
from tests.loss.argument_forms import Form, Setting, all_forms, chosen_forms
from tests.loss.argument_kinds import (
    Boolean,
    Count,
    Embeddings,
    Floats,
    Ids,
    Kind,
    Name,
    Number,
    Sampler,
    Seed,
    Size,
    Table,
    standing_for,
)
from tests.loss.audit_runs import outcome
from tests.support import joined_batch, oracle, two_replicas
from tests.support.cases import DTYPES, Array
from tests.support.checkout import ROOT
from tests.tensorflow.test_replicas import assert_equal_to_one_device

KINDS: dict[str, Kind] = {
    "query": Embeddings("query"),
    "doc": Embeddings("doc"),
    "num_negatives": Count(),
    "negative_indices": Table(),
    "sampler": Sampler(("shuffle", "ring", "all")),
    "seed": Seed(),
    "scale": Number(12.5, lowest=0, may_be_tensor=True),
    "temperature": Number(0.75, lowest=0, may_be_tensor=True),
    "margin": Number(0.125),
    "negative_weight": Number(2.5, lowest=0),
    "mask_self": Boolean(True),
    "doc_ids": Ids("doc"),
    "query_ids": Ids("query"),
    "doc_log_q": Floats("doc", may_be_low=False),
    "sample_weight": Floats("query", may_be_low=True, may_be_mask=True),
    "normalize_over": Name(("candidates", "batch")),
    "reduction": Name(("mean", "sum", "none")),
    "return_stats": Boolean(False),
    "cross_replica": Boolean(True),
    "implementation": Name(("auto", "native", "reference")),
}

SHAPES = [(6, 9, 4, 3), (0, 3, 4, 3), (1, 4, 3, 3), (5, 5, 17, 8), (1, 1, 2, 3)]
IMPLEMENTATIONS = ("native", "reference")


def settings_of(name: str) -> Iterator[Setting]:
    """A sequence that meets each pair of a batch's properties with the other's soon."""
    precisions = ("float32", "float64", "bfloat16", "float16")
    sources: tuple[str, ...] = ("indices",)
    if name in ("num_negatives", "sampler", "seed"):
        sources = ("shuffle", "ring")
    # Across replicas the two kinds of ids exclude each other.
    options = tuple(n for n in runs.OPTIONAL if (name, n) != ("cross_replica", "query_ids"))
    for number in itertools.count():
        shape = SHAPES[number % len(SHAPES)]
        yield Setting(
            *shape,
            precision=precisions[number // 2 % len(precisions)],
            source=sources[number % len(sources)] if shape[1] > shape[3] else sources[0],
            names=options if number % 3 else (),
            reduction=("mean", "sum", "none")[number // 3 % 3],
        )


@functools.cache
def forms_of(name: str, setting: Setting) -> dict[str, Form]:
    """Every form of an argument, by its name."""
    return {form.name: form for form in all_forms(KINDS[name].values(setting, name))}


# A ring's C - 1 candidates are all others.
ALIKE_FOR_ANY_SEED = Setting(6, 9, 4, 8, "float32", source="ring")


def cases(name: str, chosen: Iterable[str]) -> Iterator[Any]:
    """Some forms of an argument, each with a setting in which it exists."""
    settings = settings_of(name)
    for form in chosen:
        setting = next(setting for setting in settings if form in forms_of(name, setting))
        if (name, form) == ("seed", "None"):
            setting = ALIKE_FOR_ANY_SEED
        yield pytest.param(name, form, setting, id=f"{name}-{form}")


def test_every_argument_of_the_losses_has_a_kind() -> None:
    fused = inspect.signature(negative_cosine.fused_negative_cosine_loss).parameters
    reference = inspect.signature(negative_cosine.reference_negative_cosine_loss).parameters
    assert set(fused) == set(KINDS)
    assert set(reference) - {"options"} < set(fused)


def test_every_public_callable_is_audited() -> None:
    layers = {layer.__name__ for layer in test_audit_of_layers.KINDS}
    functions = {"fused_negative_cosine_loss", "reference_negative_cosine_loss"}
    results = {"NegativeCosineStats"}
    rest = {"sample_negatives"}
    # tests/catalogue tries what may be wrong with these.
    catalogue = {
        "RetrievalMetrics",
        "hardest_negatives",
        "mean_reciprocal_rank",
        "ndcg_at_k",
        "recall_at_k",
        "retrieval_ranks",
        "top_documents",
    }
    known = functions | layers | results | rest | catalogue
    assert set(negative_cosine.__all__) == known


USUAL = Setting(*SHAPES[0], precision="float32")


def usual_cases() -> Iterator[Any]:
    """Each value and each carrier of each argument, but not each pair of them."""
    for name, kind in KINDS.items():
        yield from cases(name, chosen_forms(kind.values(USUAL, name)))


def check(name: str, form: Form, setting: Setting, program: str) -> None:
    """One form, by both implementations."""
    for implementation in ("native",) if name == "implementation" else IMPLEMENTATIONS:
        arguments = runs.usual_arguments(setting)
        arguments.pop(name, None)
        if form.carrier == "a tensor":
            assert form.given is not None
            fed = {**fed_of(arguments), name: form.given.value}
            run = prepared(program, implementation, setting)
        else:
            fed = fed_of(arguments)
            written = writer(name, form, program)
            run = runs.PROGRAMS[program](step_of(implementation, arguments, written))
        found = outcome(functools.partial(run, dict(sorted(fed.items()))), program)
        judge(found, implementation, name, form, setting, program)


def judge(
    found: Any, implementation: str, name: str, form: Form, setting: Setting, program: str
) -> None:
    """By the rule of the argument's kind."""
    kind = KINDS[name]
    problem = kind.judge(form.given, setting)
    arguments = runs.usual_arguments(setting)
    if problem == "value" and program == "XLA":
        if name == "negative_indices" and implementation == "reference":
            assert form.given is not None
            value = runs.without_missing_documents(form.given.value, setting)
            runs.assert_judges_results(found, setting, {**arguments, name: value})
            return
        runs.assert_no_plausible_number(found, name)
    elif problem:
        runs.assert_refused(found, name)
    else:
        assert form.given is not None
        value = standing_for(form.given, kind, setting)
        runs.assert_judges_results(found, setting, {**arguments, name: value})


def fed_of(arguments: runs.Arguments) -> runs.Arguments:
    """Those that a program is fed with."""
    return {n: v for n, v in arguments.items() if isinstance(v, np.ndarray | np.generic)}


def writer(name: str, form: Form, program: str) -> Callable[[], runs.Arguments]:
    """Writes the form down: in a session's graph, else once and outside of any graph."""
    if program == "a session":
        return lambda: {name: form.make()}
    once = {name: form.make()}
    return lambda: once


def step_of(
    implementation: str,
    arguments: runs.Arguments,
    written: Callable[[], runs.Arguments] = dict,
) -> runs.Step:
    """A step of what it is fed with, the other arguments, and what is written down."""
    fixed = {n: v for n, v in arguments.items() if n not in fed_of(arguments)}

    def step(fed: runs.Arguments) -> Any:
        return runs.loss_and_gradients(implementation, {**fixed, **fed, **written()})

    return step


@functools.cache
def prepared(program: str, implementation: str, setting: Setting) -> runs.Step:
    """A program that is traced once for all values of one dtype and rank."""
    arguments = runs.usual_arguments(setting)
    return runs.PROGRAMS[program](step_of(implementation, arguments))


@pytest.mark.parametrize(("name", "form", "setting"), list(usual_cases()))
def test_a_form_of_an_argument_is_right_or_refused_by_name(
    name: str, form: str, setting: Setting
) -> None:
    check(name, forms_of(name, setting)[form], setting, "eager")


@pytest.mark.parametrize("precision", DTYPES)
def test_a_row_whose_own_log_q_is_infinite_has_no_gradient(precision: str) -> None:
    setting = Setting(*SHAPES[0], precision=precision)
    form = forms_of("doc_log_q", setting)["infinity first as a tensor"]
    check("doc_log_q", form, setting, "eager")


# --- In graphs ---------------------------------------------------------------------------

# Each with a batch of its own, so that what it has traced serves for every value.
GRAPHS = {
    "a function": ("bfloat16", "sum"),
    "a function of unknown sizes": ("float32", "mean"),
    "a session": ("float64", "none"),
    "XLA": ("float32", "mean"),
}


def graph_setting(name: str, program: str) -> Setting:
    """The batch of a program."""
    precision, reduction = GRAPHS[program]
    draws = name in ("num_negatives", "sampler", "seed")
    return Setting(
        *SHAPES[0],
        precision=precision,
        source="shuffle" if draws else "indices",
        names=tuple(
            n for n in runs.OPTIONAL if (name, n) != ("cross_replica", "query_ids")
        ),
        reduction=reduction,
    )


def fed_cases(every: bool) -> Iterator[Any]:
    """Tensors whose values the running program alone knows; dtypes and shapes in turn."""
    for name, (number, program) in itertools.product(KINDS, enumerate(GRAPHS)):
        setting = graph_setting(name, program)
        labels = KINDS[name].values(setting, name)
        special = forms.special_values(KINDS[name].usual(setting, name))
        for place, label in enumerate(labels):
            form = f"{label} as a tensor"
            is_due = (place + number) % len(GRAPHS) == 0 and program != "XLA"
            is_special = label in special and (place + number) % 3 == 0
            if form in forms_of(name, setting) and (every or is_special or is_due):
                text = f"{name}-{form}-{program}"
                yield pytest.param(name, form, program, id=text)


@pytest.mark.parametrize(("name", "form", "program"), list(fed_cases(every=False)))
def test_what_the_running_program_alone_knows_is_right_or_refused_by_name(
    name: str, form: str, program: str
) -> None:
    setting = graph_setting(name, program)
    check(name, forms_of(name, setting)[form], setting, program)


def written_cases() -> Iterator[Any]:
    """Forms that a program holds in itself, in turn."""
    for name, kind in KINDS.items():
        for number, program in enumerate(("a function", "a session")):
            setting = graph_setting(name, program)
            known = forms_of(name, setting)
            chosen = chosen_forms(kind.values(setting, name))
            for form in chosen[number::WRITTEN]:
                # Keras makes variables in no graph but its own.
                if known[form].carrier not in ("a tensor", "a Keras variable"):
                    text = f"{name}-{form}-{program}"
                    yield pytest.param(name, form, program, id=text)


WRITTEN = 30  # one of so many


@pytest.mark.parametrize(("name", "form", "program"), list(written_cases()))
def test_what_a_graph_holds_in_itself_is_right_or_refused_by_name(
    name: str, form: str, program: str
) -> None:
    setting = graph_setting(name, program)
    check(name, forms_of(name, setting)[form], setting, program)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", [n for n, kind in KINDS.items() if kind.may_be_tensor])
def test_a_tensor_of_unknown_rank_is_refused_by_name(
    name: str, implementation: str
) -> None:
    setting = graph_setting(name, "a function")
    usual = runs.usual_arguments(setting)
    step = step_of(implementation, usual)
    value = usual[name]
    of_no_rank = tf.TensorSpec(None, tf.as_dtype(value.dtype))

    def call(tensor: tf.Tensor) -> Any:
        return step({**fed_of(usual), name: tensor})

    with pytest.raises(ValueError, match=rf"\b{name}\b.*ensure_shape\({name}, "):
        tf.function(call, autograph=False).get_concrete_function(of_no_rank)


@pytest.mark.nightly
@pytest.mark.parametrize("name", KINDS)
def test_every_value_by_every_carrier_is_right_or_refused_by_name(name: str) -> None:
    found = {}
    for case in cases(name, forms_of(name, USUAL)):
        _, form, setting = case.values
        try:
            check(name, forms_of(name, setting)[form], setting, "eager")
        except Exception as fault:
            found[form] = repr(fault)
    assert not found


@pytest.mark.nightly
@pytest.mark.parametrize(("name", "form", "program"), list(fed_cases(every=True)))
def test_every_tensor_is_right_or_refused_by_name_in_every_program(
    name: str, form: str, program: str
) -> None:
    setting = graph_setting(name, program)
    check(name, forms_of(name, setting)[form], setting, program)


def compiled_texts(setting: Setting) -> list[str]:
    """What XLA makes of the reference, for two batches of other values."""
    usual = runs.usual_arguments(setting)
    step = tf.function(step_of("reference", usual), autograph=False, jit_compile=True)
    texts = []
    for number in (1, 2):
        tensors = {
            name: tf.constant(np.roll(value, number) if np.ndim(value) else value * number)
            for name, value in fed_of(usual).items()
        }
        texts.append(step.experimental_get_compiler_ir(tensors)(stage="hlo"))
    return texts


@pytest.mark.parametrize("normalize_over", ["candidates", "batch"])
@pytest.mark.parametrize("source", ["indices", "shuffle", "ring", "all"])
def test_xla_compiles_once_for_batches_of_other_values(
    source: str, normalize_over: str
) -> None:
    setting = Setting(
        *SHAPES[0],
        precision="float32",
        source=source,
        names=runs.OPTIONAL,
        normalize_over=normalize_over,
    )
    of_one, of_another = compiled_texts(setting)
    assert of_one == of_another


# --- sample_negatives --------------------------------------------------------------------

SIZES: dict[str, Kind] = {
    "batch_size": Size("", "docs"),
    "num_candidates": Size("rows", ""),
    "num_negatives": Count(),
    "sampler": Sampler(("shuffle", "ring", "all")),
    "seed": Seed(),
}


def test_every_argument_of_sample_negatives_has_a_kind() -> None:
    parameters = inspect.signature(negative_cosine.sample_negatives).parameters
    assert set(parameters) == set(SIZES)


def size_cases() -> Iterator[Any]:
    """Each value and each carrier of each argument; each tensor in each program too."""
    for name, kind in SIZES.items():
        setting = Setting(*SHAPES[0], precision="float32", source="shuffle")
        values = kind.values(setting, name)
        for program in ("eager", "a function of unknown sizes", "XLA"):
            special = forms.special_values(kind.usual(setting, name))
            fed = [f"{label} as a tensor" for label in ("usual", *special)]
            known = {form.name for form in all_forms(values)}
            for form in chosen_forms(values) if program == "eager" else fed:
                # XLA would look for the memory of a table of so many rows.
                is_huge = program == "XLA" and form.startswith("2**31 - 1")
                if form in known and not is_huge:
                    yield pytest.param(name, form, program, id=f"{name}-{form}-{program}")


@pytest.mark.parametrize(("name", "form_name", "program"), list(size_cases()))
def test_a_form_of_an_argument_of_sample_negatives_is_right_or_refused_by_name(
    name: str, form_name: str, program: str
) -> None:
    setting = Setting(*SHAPES[0], precision="float32", source="shuffle")
    (form,) = (
        form
        for form in all_forms(SIZES[name].values(setting, name))
        if form.name == form_name
    )
    arguments: dict[str, Any] = {
        "batch_size": setting.rows,
        "num_candidates": setting.docs,
        "num_negatives": setting.k,
        "sampler": "shuffle",
        "seed": (5, 1),
    }
    fed = {}
    if form.carrier == "a tensor":
        assert form.given is not None
        fed = {name: form.given.value}

    def step(tensors: runs.Arguments) -> Any:
        written = tensors if fed else {name: form.make()}
        return {"table": negative_cosine.sample_negatives(**{**arguments, **written})}

    found: Any = outcome(lambda: runs.PROGRAMS[program](step)(fed), program)
    problem = SIZES[name].judge(form.given, setting)
    if (problem, program) == ("value", "XLA"):
        # What is far too large is refused for its memory.
        is_table = not isinstance(found, runs.Refused)
        assert not is_table or (found["table"] == -1).all(), "documents of no batch"
    elif problem:
        runs.assert_refused(found, name)
    elif not problem and form_name != "None":
        assert form.given is not None
        value = form.given.value[()]
        assert not isinstance(found, runs.Refused), f"refused: {found.error}"
        expected = table_of({**arguments, name: value})
        np.testing.assert_array_equal(found["table"], expected)


def table_of(arguments: dict[str, Any]) -> Array:
    """The judge's."""
    rows, docs, k = (
        int(arguments[name]) for name in ("batch_size", "num_candidates", "num_negatives")
    )
    first, second = (int(part) for part in arguments["seed"])
    sampler = str(arguments["sampler"])
    return oracle.sample_negatives(rows, docs, k, sampler, (first, second))


# --- Other programs ----------------------------------------------------------------------

if os.environ.get("AUDIT_WITHOUT_EAGER_EXECUTION"):
    tf.compat.v1.disable_eager_execution()


def test_sessions_judge_alike_in_a_program_without_eager_execution() -> None:
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-k", "the_running_program and session", __file__),
        ],
        env={**os.environ, "AUDIT_WITHOUT_EAGER_EXECUTION": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-8000:]
    (passed,) = re.findall(r"(\d+) passed", result.stdout)
    assert int(passed) > 50


def replica_cases() -> Iterator[Any]:
    """A right value of each tensor, one of a wrong form, one of wrong numbers."""
    setting = Setting(4, 6, joined_batch.D, joined_batch.K, "float32")
    for name, kind in KINDS.items():
        if not kind.may_be_tensor or name in ("seed", "scale", "temperature"):
            continue
        by_problem: dict[str, Any] = {}
        for label, value in kind.values(setting, name).items():
            given = forms.Given(value, "tensor")
            if value.dtype.kind in "biufV" and np.isfinite(value.astype(float)).all():
                by_problem.setdefault(kind.judge(given, setting), (label, value))
            elif kind.judge(given, setting) == "value":
                by_problem.setdefault("value", (label, value))
        for problem, (label, value) in by_problem.items():
            yield pytest.param(name, problem, value, id=f"{name}-{label}")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("name", "problem", "value"), list(replica_cases()))
def test_across_replicas_one_replicas_tensor_is_right_or_refused_by_name(
    name: str, problem: str, value: Array, implementation: str
) -> None:
    sizes: joined_batch.Sizes = [(4, 6), (4, 6)]
    names = {"query", "doc", name} - {"negative_indices"}
    parts = [
        {
            n: v
            for n, v in joined_batch.random_part(own, "float32", number).items()
            if n in names
        }
        for number, own in enumerate(sizes)
    ]
    options: dict[str, Any] = {"sampler": "all", "implementation": implementation}
    if name == "negative_indices":
        for part in parts:
            part[name] = np.zeros([4, joined_batch.K], value.dtype)
    parts[1][name] = value
    if value.dtype != parts[0][name].dtype:
        parts[0][name] = parts[0][name].astype(value.dtype)
    strategy = two_replicas.mirrored_strategy()
    found: Any = outcome(
        lambda: {"all": joined_batch.run_on_replicas(strategy, parts, "graph", **options)}
    )
    if problem:
        runs.assert_refused(found, name)
        return
    assert not isinstance(found, runs.Refused), f"refused: {found.error}"
    table = [every_other(8, 12)]
    if name == "negative_indices":
        table = [
            joined_batch.own_first(sizes, number)[part.pop(name)]
            for number, part in enumerate(parts)
        ]
    expected = joined_batch.judge(parts, sizes, np.concatenate(table), temperature=0.7)
    assert_equal_to_one_device(list(found["all"]), expected, sizes)


def every_other(rows: int, docs: int) -> Array:
    """The candidates of ``sampler="all"``."""
    return oracle.sample_negatives(rows, docs, docs - 1, "all", (0, 0))
