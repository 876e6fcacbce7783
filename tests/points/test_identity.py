"""The identity of points. One of the tests finds settings that change nothing."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import grimp
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.reading import read_config
from pipeline.config.schema import Config, flatten
from pipeline.data.arrays import Arrays, load
from pipeline.points import identity
from pipeline.points.identity import NOT_SIGNED, computed_by, signature, signed_text
from pipeline.points.point import knobs
from pipeline.system import engines
from pipeline.system.errors import LabError
from pipeline.system.project import CONF, PROJECT
from tests.support.trained import config, trained

CODE_SHA256 = "682e4bb1da8197d746ff5e55aa9ba219963d329a5368094c19205824f497cea0"
SUMS = {"table": "0" * 64}
TABLE = ("experiment=three_bits", "training.epochs=3", "model.hidden_size=4")
# Composed where they are used: every worker collects this file, and one of them runs it.
BASES: dict[str, tuple[str, ...]] = {
    "sgd": TABLE,
    "momentum": (*TABLE, "optimizer=momentum"),
    "adam": ("training.epochs=2",),
    "keras": ("backend=keras", "optimizer=nesterov"),
    "map": ("experiment=trainability_map",),
    "curve": ("experiment=curve_restarts",),
    "features": ("feature=clip_norm", "training.clip_value=1", "model.further_hidden_sizes=[4]"),
    "adagrad": (*TABLE, "optimizer=adagrad", "schedule=step"),
    "adadelta": (*TABLE, "optimizer=adadelta", "schedule=exponential"),
    "rmsprop": (*TABLE, "optimizer=rmsprop", "schedule=cosine"),
    "adamw": (*TABLE, "optimizer=adamw", "schedule=one_cycle"),
    "amsgrad": (*TABLE, "optimizer=amsgrad", "schedule=reduce_on_plateau"),
    "lion": (*TABLE, "optimizer=lion"),
    "bfgs": (*TABLE, "optimizer=bfgs"),
    "lbfgs": (*TABLE, "optimizer=lbfgs"),
    "annealing": (*TABLE, "optimizer=annealing"),
    "aw_sgd": ("optimizer=aw_sgd",),
}


def base_of(name: str) -> Config:
    return config(*BASES[name])


def other_value(value: Any) -> Any:
    """Another value of about the same kind; whether a run could use it does not matter here."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, value[-1] if value else 1]
    return "other" if value is None else f"{value}x"


def with_value(base: Config, key: str, value: Any) -> Config:
    """A copy with one key replaced, unchecked."""
    *sections, last = key.split(".")
    parts: list[Any] = [base]
    for section in sections:
        part = parts[-1]
        parts.append(part[section] if isinstance(part, dict) else getattr(part, section))
    new = value
    for part, name in zip(reversed(parts), [last, *reversed(sections)], strict=True):
        new = {**part, name: new} if isinstance(part, dict) else part.model_copy(update={name: new})
    result: Config = new
    return result


def is_left_out(key: str) -> bool:
    section, _, rest = key.partition(".")
    rule = NOT_SIGNED.get(section)
    return rule is True or (rule is not None and rest.partition(".")[0] in rule)


# --- what counts


def test_a_signature_begins_the_hash_of_the_canonical_text() -> None:
    text = signed_text(base_of("sgd"), SUMS)
    own = signature(base_of("sgd"), SUMS)
    assert re.fullmatch("[0-9a-f]{16}", own)
    assert hashlib.sha256(text.encode()).hexdigest().startswith(own)
    assert text == json.dumps(json.loads(text), sort_keys=True, indent=1, allow_nan=False) + "\n"
    assert set(json.loads(text)) == {"config", "data", "source", "versions"}


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("name", BASES)
def test_every_key_counts_but_those_that_are_named(name: str) -> None:
    base = base_of(name)
    own, seen = signature(base, SUMS), dict[str, str]()
    for key, value in flatten(base):
        if key in ("grid", "balls"):  # sections of their own, which the bases `map` and `curve` have
            continue
        changed = signature(with_value(base, key, other_value(value)), SUMS)
        if is_left_out(key) and not (key == "threads" and base.backend.name == "keras"):
            assert changed == own, key
        else:
            assert changed not in {own, *seen}, f"{key} does not count, or like {seen.get(changed)}"
            seen[changed] = key
    assert len(seen) > 20


def test_the_keys_that_do_not_count_are_these() -> None:
    """A longer list lets two points pass for one."""
    left_out = {key for name in BASES for key, _ in flatten(base_of(name)) if is_left_out(key)}
    assert {re.sub(r"^(data\.(files|sources)).*", r"\1", key) for key in left_out} == {
        "study",
        "feature",
        "tracking.name",
        "tracking.uri",
        "results",
        "dry_run",
        "force",
        "breaking_rate",
        "budget",
        "threads",
        "recording.figures",
        "recording.models",
        "curvature.rows",
        "curvature.count",
        "backend.line_study_gradient",
        "data.name",
        "data.local_dir",
        "data.sources",
        "data.files",
    }


def test_threads_count_on_keras_alone() -> None:
    """There they change the last bits; one is what a point has that asks for none."""
    of = {count: signature(with_value(base_of("keras"), "threads", count), SUMS) for count in (None, 1, 2, 3)}
    assert of[None] == of[1]
    assert len(set(of.values())) == 3
    assert signature(with_value(base_of("sgd"), "threads", 2), SUMS) == signature(base_of("sgd"), SUMS)


def test_threads_are_named_where_they_count() -> None:
    for base, threads, named in (("keras", 2, True), ("keras", 1, False), ("sgd", 2, False)):
        one = with_value(base_of(base), "threads", threads)
        assert (knobs(one, [f"threads={threads}"]).get("threads") == "2") is named


def test_threads_are_refused_where_they_can_have_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(engines, "find_spec", lambda name: name)
    signature(base_of("keras"), SUMS)
    with pytest.raises(LabError, match="threads of jax cannot be set"):
        signature(with_value(base_of("keras"), "threads", 2), SUMS)


@given(st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_count(random: Any) -> None:
    def shuffled(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        keys = list(value)
        random.shuffle(keys)
        return {key: shuffled(value[key]) for key in keys}

    base = base_of("adam")
    sums = {name: str(index) for index, name in enumerate("abcd")}
    assert signature(read_config(shuffled(base.model_dump(mode="json"))), shuffled(sums)) == signature(base, sums)


@given(st.integers(1, 2**53 - 1))
def test_a_whole_number_is_the_same_however_it_is_written(number: int) -> None:
    def signed(key: str, value: object) -> str:
        plain = base_of("sgd").model_dump(mode="json")
        section, name = key.split(".")
        plain[section][name] = value
        return signature(read_config(plain), SUMS)

    for key in ("optimizer.learning_rate", "model.initial_weight", "model.hidden_size"):
        assert signed(key, number) == signed(key, float(number))
    assert signed("optimizer.learning_rate", number) == signed("optimizer.learning_rate", str(number))


def test_one_and_one_point_nought_on_the_command_line_and_in_data_are_the_same() -> None:
    for whole, real in (
        ("optimizer.learning_rate=1", "optimizer.learning_rate=1.0"),
        ("optimizer.learning_rate=1000", "optimizer.learning_rate=1e3"),
        ("model.hidden_size=4", "model.hidden_size=4.0"),
        ("data.targets=[[0],[1],[1],[0]]", "data.targets=[[0.0],[1.0],[1.0],[0.0]]"),
    ):
        a, b = config(*TABLE, whole), config(*TABLE, real)
        sums = [load(point.data, point.dtype, Path()).checksums for point in (a, b)]
        assert signature(a, sums[0]) == signature(b, sums[1])


@pytest.mark.parametrize(
    "sums", [{"table": "1" * 64}, {"other": "0" * 64}, {}, {"table": "0" * 64, "second": "0" * 64}]
)
def test_the_data_counts(sums: dict[str, str]) -> None:
    assert signature(base_of("sgd"), sums) != signature(base_of("sgd"), SUMS)


def test_another_default_in_conf_is_another_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signature(config(), SUMS)
    for number, (name, old, new) in enumerate(
        (
            ("optimizer/adam.yaml", "epsilon: 1.0e-7", "epsilon: 1.0e-8"),
            ("config.yaml", "seed: 1", "seed: 2"),
            ("model/mlp.yaml", "hidden_activation: relu", "hidden_activation: sigmoid"),
        )
    ):
        conf = shutil.copytree(CONF, tmp_path / str(number))
        content = (conf / name).read_text()
        assert old in content
        (conf / name).write_text(content.replace(old, new))
        monkeypatch.setattr("tests.support.trained.CONF", conf)
        assert signature(config(), SUMS) != before, name
    monkeypatch.setattr("tests.support.trained.CONF", shutil.copytree(CONF, tmp_path / "unchanged"))
    assert signature(config(), SUMS) == before


# --- the source of what trains


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package, whose source is signed instead."""
    copy = tmp_path / "pipeline"
    shutil.copytree(identity.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(identity, "PACKAGE", copy)
    identity.source_checksums.cache_clear()
    yield copy
    identity.source_checksums.cache_clear()


def signatures() -> dict[str, str]:
    identity.source_checksums.cache_clear()
    return {name: signature(config(*TABLE, f"backend={name}"), SUMS) for name in ("numpy", "keras")}


BOTH = {"numpy", "keras"}


def with_other_constant(source: str) -> str:
    """The same code with one constant changed that is not a docstring; unchanged if there is none."""
    tree = ast.parse(source)
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in documents)
    first = next(constants, None)
    if first is None:
        return source
    first.value = "another constant"
    return ast.unparse(tree)


def with_other_words(source: str) -> str:
    """The same code in another layout, with other docstrings and comments."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            node.value.value = "Another docstring."
    return f'"""A docstring."""\n\n\n{ast.unparse(tree)}  # a comment\n\n"""The last line, documented."""\n'


def test_a_constant_of_a_module_counts_for_the_points_that_it_trains_and_for_no_others(package: Path) -> None:
    before = signatures()
    deciding = {backend: set(identity.source_checksums(f"backends/{backend}")) for backend in BOTH}
    for file in package.rglob("*.py"):
        content = file.read_text()
        changed = with_other_constant(content)
        if changed == content:
            continue
        file.write_text(changed)
        after = signatures()
        name = file.relative_to(package).as_posix()
        expected = {backend for backend in BOTH if name in deciding[backend]}
        assert {backend for backend in BOTH if after[backend] != before[backend]} == expected, name
        file.write_text(content)
    assert signatures() == before


@pytest.mark.parametrize(
    ("module", "backends"),
    [
        ("data/arrays.py", BOTH),
        ("backends/choose.py", BOTH),
        ("backends/shared/history.py", BOTH),
        ("backends/shared/initial_weights.py", BOTH),
        ("backends/shared/parametrization.py", BOTH),
        ("backends/shared/schedules.py", BOTH),
        ("config/expressions.py", BOTH),
        ("config/model.py", BOTH),  # `Model.plain` picks a kernel
        ("backends/numpy/one_network.py", {"numpy"}),
        ("backends/numpy/curves/shape.py", {"numpy"}),
        ("backends/keras/optimizers.py", {"keras"}),
        ("backends/keras/saving.py", set()),
        ("backends/numpy/model_loader.py", set()),
        ("studies/kinds.py", set()),
        ("tracking/store.py", set()),
        ("sweep/sweep.py", set()),
    ],
)
def test_what_these_modules_decide(module: str, backends: set[str]) -> None:
    assert (identity.PACKAGE / module).is_file()
    assert {backend for backend in BOTH if module in identity.source_checksums(f"backends/{backend}")} == backends


def test_words_and_layout_of_a_module_do_not_count(package: Path) -> None:
    before = signatures()
    for file in package.rglob("*.py"):
        file.write_text(with_other_words(file.read_text()))
    assert signatures() == before


@pytest.mark.parametrize("path", ["more.py", "sub_folder/more.py", "sub_folder/deeper/more.py"])
def test_a_module_that_is_new_to_a_backend_counts(package: Path, path: str) -> None:
    before = signatures()
    file = package / "backends" / "numpy" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("RATE = 1")
    after = signatures()
    assert (after["numpy"] != before["numpy"], after["keras"] != before["keras"]) == (True, False)


def test_the_checksum_of_code_is_the_same_for_every_python() -> None:
    """Machines of one sweep may run different versions of Python; their points are the same."""
    code = (
        'def f(a, *, b: int = 1) -> str:\n    """Words."""\n    return f"{{x}} {a!r:>4}" "x" if b is None else -1.0\n'
    )
    assert identity.code_sha256(code) == CODE_SHA256
    assert identity.code_sha256(code.replace("1.0", "1")) != CODE_SHA256


# --- the versions of what computes


@pytest.mark.parametrize(
    ("overrides", "packages"),
    [
        ((), {"numpy"}),
        (("model.hidden_activation=gelu",), {"numpy", "scipy"}),
        (("experiment=three_bits", "optimizer=bfgs"), {"numpy", "scipy"}),
        (("experiment=three_bits", "optimizer=annealing"), {"numpy", "scipy"}),
        (("experiment=curve_restarts",), {"numpy", "scipy"}),
        (("backend=keras",), {"numpy", "keras", "tensorflow"}),
        (("backend=keras", "model.hidden_activation=gelu"), {"numpy", "keras", "tensorflow"}),
        (("backend.array_module=cupy",), {"numpy", "cupy"}),
    ],
)
def test_what_computes_is_signed_by_major_and_minor_version(
    overrides: Sequence[str], packages: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    point = config(*overrides)
    versions = dict.fromkeys(packages, "1.2.3")
    monkeypatch.setattr(metadata, "version", versions.__getitem__)
    identity.version.cache_clear()

    def signed() -> tuple[str, dict[str, str]]:
        identity.version.cache_clear()
        text = signed_text(point, SUMS)
        return text, json.loads(text)["versions"]

    try:
        before, found = signed()
        assert found == dict.fromkeys(packages, "1.2")
        for package in packages:
            versions[package] = "1.2.4"
            assert signed()[0] == before, "a patch release retrains nothing"
            versions[package] = "1.3.0"
            assert signed()[0] != before, package
            versions[package] = "1.2.3"
    finally:
        identity.version.cache_clear()


def test_a_package_may_come_from_a_distribution_of_another_name() -> None:
    assert identity.version("yaml") == ".".join(metadata.version("PyYAML").split(".")[:2])
    assert identity.version("no_such_package") == "not installed"


NOT_DECIDING = {
    "backends/contract.py": "types",
    "backends/keras/own_import.py": "imports code, which is signed",
    "config/curve.py": "what it reads is signed as values",
    "config/data.py": "what it reads is signed as values",
    "config/fields.py": "types",
    "config/map_axes.py": "the values of a map's axes are signed",
    "config/metrics.py": "how points are compared",
    "config/optimizer.py": "what it reads is signed as values",
    "config/own_code.py": "reads code, which is signed",
    "config/own_model.py": "what it reads is signed as values",
    "config/schema.py": "what it reads is signed as values",
    "data/array_checks.py": "refuses arrays that do not fit",
    "data/description.py": "what it reads is signed as a checksum",
    "data/prepared_folder.py": "finds the arrays, which are signed",
    "data/raw_files.py": "refuses arrays that are out of date",
    "system/engines.py": "the engine is signed with its version",
    "system/errors.py": "messages",
    "system/files.py": "writes and reads whole files",
    "system/formats.py": "reads whole files",
    "system/hints.py": "messages",
    "system/processes.py": "counts cores; the blocks of a map are the same for any number of them",
}


def test_a_module_that_training_imports_is_signed_or_named_here() -> None:
    """A formula must not move to a module that is not signed."""
    signed = {
        name for backend in BOTH for name in identity.source_checksums(f"backends/{backend}", "backends/curvature")
    }
    graph = grimp.build_graph("pipeline", cache_dir=None)
    for name in signed:
        module = "pipeline." + name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for imported in graph.find_modules_directly_imported_by(module):
            path = imported.removeprefix("pipeline.").replace(".", "/")
            assert {f"{path}.py", f"{path}/__init__.py"} & {*signed, *NOT_DECIDING}, f"{name}: {imported}"
    assert not set(NOT_DECIDING) & signed


# --- what DVC runs again


@pytest.fixture(scope="module")
def stages() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
    return found


def test_the_training_stages_depend_on_every_module_that_is_signed(stages: dict[str, dict[str, Any]]) -> None:
    for backend in BOTH:
        stage = stages[f"train_{backend}"]["do"]
        assert {"${item}", "data/shared.txt", f"pipeline/backends/{backend}"} <= set(stage["deps"])
        assert stage["params"] == [{"conf/experiment/${key}.yaml": None}]
    shared = [dep for dep in stages["shared"]["deps"] if dep.startswith("pipeline/")]
    for backend in BOTH:
        for module in identity.source_checksums(f"backends/{backend}"):
            deps = [*shared, f"pipeline/backends/{backend}"]
            assert any(Path("pipeline", module).is_relative_to(dep) for dep in deps), module


@pytest.mark.parametrize("name", ["shared", "shared_pages"])
def test_a_change_of_what_stages_share_reaches_them(lab: Path, stages: dict[str, dict[str, Any]], name: str) -> None:
    """The stage `shared` runs when one of its dependencies changes; what it writes must change then.

    It works where there is no git.
    """
    shared = stages[name]
    (lab / "git").write_text("#!/bin/sh\nexit 1\n")
    (lab / "git").chmod(0o755)
    environment = os.environ | {"PATH": f"{lab}:{os.environ['PATH']}"}
    # As the stages `code` write it.
    (lab / "data" / "code").mkdir(parents=True, exist_ok=True)
    (lab / "data" / "code" / "examples.txt").write_text("the checksums of a model's code\n")

    def written() -> bytes:
        subprocess.run(["sh", "-c", shared["cmd"]], cwd=lab, env=environment, check=True, timeout=60)
        return (lab / "data" / f"{name}.txt").read_bytes()

    before = written()
    params = [file for entry in shared.get("params", []) for file in entry]
    for path in map(lab.joinpath, [*shared["deps"], *params]):
        file = min([*path.rglob("*.py"), *path.rglob("*.yaml"), *path.glob("*.txt")], default=path)
        content = file.read_bytes()
        file.write_bytes(content + b"#")
        assert written() != before, file
        file.write_bytes(content)
    assert written() == before


# --- dead knobs


SMALL_IMAGES = ("training.epochs=2", "training.batch_size=16", "model.hidden_size=5")
LINE = ("experiment=line_y3x", "training.epochs=2")
PLATEAU = (*TABLE, "schedule=reduce_on_plateau", "schedule.patience=1", "schedule.min_delta=1")
LBFGS = (*TABLE, "optimizer=lbfgs", "training.epochs=9")
ANNEALING = (*TABLE, "optimizer=annealing", "optimizer.initial_temp=0.02")
AW_SGD = (*TABLE, "optimizer=aw_sgd", "training.batch_size=2", "optimizer.sampling_learning_rate=9")
ALTERNATIVES: dict[str, tuple[Sequence[str], str]] = {
    "seed": (TABLE, "2"),
    "dtype": (TABLE, "float32"),
    "loss": (TABLE, "mean_squared_error"),
    "gradient": (TABLE, "finite_difference"),
    "finite_difference_step": ((*TABLE, "gradient=finite_difference"), "0.01"),
    "data.inputs": (TABLE, "[[0,0,1],[0,1,1],[1,0,1],[1,2,1]]"),
    "data.targets": (TABLE, "[[0],[1],[1],[1]]"),
    "model.hidden_size": (TABLE, "5"),
    "model.hidden_activation": (TABLE, "relu"),
    "model.output_activation": (TABLE, "identity"),
    "model.bias": (TABLE, "true"),
    "model.further_hidden_sizes": (TABLE, "[3]"),
    "model.batch_normalization": (TABLE, "true"),
    "model.dropout": (TABLE, "0.5"),
    "model.drop_connect": (TABLE, "0.5"),
    "model.initializer": (TABLE, "glorot_uniform"),
    "model.initial_weight": (LINE, "0.5"),
    "model.initial_bias": (LINE, "0.5"),
    "optimizer.name": ((*TABLE, "optimizer=momentum"), "nesterov"),
    "optimizer.learning_rate": (TABLE, "0.2"),
    "optimizer.output_learning_rate": (TABLE, "0.2"),
    "optimizer.momentum": ((*TABLE, "optimizer=momentum"), "0.5"),
    "optimizer.beta_1": ((*TABLE, "optimizer=adam"), "0.5"),
    "optimizer.beta_2": ((*TABLE, "optimizer=adam"), "0.5"),
    "optimizer.epsilon": ((*TABLE, "optimizer=adam"), "0.001"),
    "optimizer.initial_accumulator_value": ((*TABLE, "optimizer=adagrad"), "0.5"),
    "optimizer.rho": ((*TABLE, "optimizer=rmsprop"), "0.5"),
    "optimizer.weight_decay": ((*TABLE, "optimizer=adamw"), "0.5"),
    "schedule.every": ((*TABLE, "schedule=step"), "0.5"),
    "schedule.factor": ((*TABLE, "schedule=step"), "0.2"),
    "schedule.warm_up": ((*TABLE, "schedule=cosine"), "0.5"),
    "schedule.final": ((*TABLE, "schedule=exponential"), "0.1"),
    "schedule.rising": ((*TABLE, "schedule=one_cycle"), "0.9"),
    "schedule.initial": ((*TABLE, "schedule=one_cycle", "schedule.rising=0.9"), "0.1"),
    "schedule.patience": (PLATEAU, "2"),
    "schedule.min_delta": (PLATEAU, "0"),
    "optimizer.memory": (LBFGS, "1"),
    "optimizer.gradient_tolerance": (LBFGS, "0.1"),
    "optimizer.bound": (ANNEALING, "0.5"),
    "optimizer.initial_temp": (ANNEALING, "9"),
    "optimizer.restart_temp_ratio": (ANNEALING, "0.9"),
    "optimizer.visit": (ANNEALING, "2"),
    "optimizer.accept": (ANNEALING, "-500"),
    "optimizer.local_search": (ANNEALING, "true"),
    "optimizer.sampling_learning_rate": (AW_SGD, "3"),
    "optimizer.sampled_by": (AW_SGD, "target"),
    "optimizer.uniform_share": (AW_SGD, "0.5"),
    "training.epochs": (TABLE, "4"),
    "training.batch_size": (TABLE, "2"),
    "model.parametrization": ((*TABLE, "model.initializer=lecun_normal"), "maximal_update"),
    "model.base_hidden_size": (
        (*TABLE, "model.initializer=lecun_normal", "model.parametrization=maximal_update"),
        "2",
    ),
    "training.l1": (TABLE, "0.1"),
    "training.l2": (TABLE, "0.1"),
    "training.clip_value": (TABLE, "0.001"),
    "training.clip_norm": (TABLE, "0.001"),
    "feature": (TABLE, "tanh"),
}
"""For each knob where it is turned, and to what."""
FOR_IMAGES = {
    "seed": "2",
    "optimizer.learning_rate": "0.01",
    "model.hidden_size": "6",
    "training.batch_size": "7",
    "training.epochs": "3",
    "model.further_hidden_sizes": "[4]",
    "model.batch_normalization": "true",
    "model.dropout": "0.5",
    "model.drop_connect": "0.5",
    "training.l1": "0.1",
    "training.clip_norm": "0.001",
    "training.rows": "20",
}
"""The same for the images of `tiny_images`, in minibatches."""
TURNS_NO_WEIGHT = {
    "study": "a name",
    "results": "a path",
    "dry_run": "trains nothing",
    "force": "trains the same again",
    "budget": "how much is trained by one command",
    "breaking_rate": "of pipeline.predict alone",
    "threads": "what computes the same bits: tests/backends/test_numpy_threads.py",
    "tracking.name": "where the run is shown",
    "tracking.uri": "where the run is shown",
    "grid": "a run of another kind: tests/backends/test_rate_map.py",
    "balls": "a run of another kind: tests/backends/test_curve_descent.py",
    "recording.metrics_every": "how much is written down",
    "recording.snapshots": "how much is written down",
    "recording.figures": "what is drawn",
    "recording.models": "what is kept in MLflow",
    "recording.weight_metrics": "how much is written down",
    "recording.update_losses": "how much is written down",
    "recording.direction_changes": "how much is written down",
    "recording.table_epochs": "how much is written down",
    "recording.curvature": "how much is written down",
    "curvature.rows": "how much is written down",
    "curvature.count": "how much is written down",
    "data.kind": "who reads the data; its arrays count",
    "data.name": "a name",
    "data.classes": "the number of outputs, with the arrays: tests/data/test_data.py",
    "data.validation_share": "which rows are trained on: tests/data/test_data.py",
    "data.split_seed": "which rows are trained on: tests/data/test_split.py",
    "data.local_dir": "where the data comes from; its checksum counts",
    "data.sources": "where the data comes from; its checksum counts",
    "data.files": "names and checksums of the data",
    "schedule.name": "each has knobs of its own, which are turned: tests/backends/test_numpy_training.py",
    "backend.name": "the same formulas in other hands: tests/backends/test_backends.py",
    "backend.line_study_gradient": "what `gradient` is in two studies",
    "backend.array_module": "where the same is computed: tests/backends/test_array_modules.py",
    "backend.jit_compile": "Keras alone: how it is computed",
}
"""Keys that no weight depends on, and why they are there."""


@cache
def final_weights(overrides: tuple[str, ...]) -> dict[str, Any]:
    history = trained(config(*overrides))[0]
    return dict(history.snapshots[max(history.snapshots)])


def differ(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return set(a) != set(b) or any(not np.array_equal(a[name], b[name]) for name in a)


STUDIES = ("three_bits", "mnist")
NOT_TOGETHER = {("aw_sgd", "three_bits"), ("annealing", "mnist")}
"""Methods and studies: tests/config/test_rules.py."""


def keys_of_conf() -> set[str]:
    """Every key that a config can have, with any choice of groups; the parts of data's lists and dicts as one."""
    chosen = [config(f"experiment={name}", f"backend={backend}") for name in STUDIES for backend in ("numpy", "keras")]
    for optimizer in (path.stem for path in (CONF / "optimizer").glob("*.yaml")):
        (experiment, *_) = (name for name in STUDIES if (optimizer, name) not in NOT_TOGETHER)
        chosen.append(config(f"experiment={experiment}", f"optimizer={optimizer}"))
    keys = {re.sub(r"^(data\.files).*", r"\1", key) for one in chosen for key, _ in flatten(one)}
    for schedule in (path.stem for path in (CONF / "schedule").glob("*.yaml")):
        keys |= {key for key, _ in flatten(config(f"schedule={schedule}")) if key.startswith("schedule.")}
    return keys


def knobs_of_own_models() -> set[str]:
    """The knobs of the Keras models in conf/model, which tests/backends/test_own_models.py turns."""
    files = [yaml.safe_load(file.read_text()) for file in (CONF / "model").glob("*.yaml")]
    return {f"model.{key}" for file in files if "_target_" in file for key in file}


def swept_keys() -> set[str]:
    """Every key that an experiment sweeps; of a group the name of the chosen file."""
    experiments = [yaml.safe_load(path.read_text()) for path in (CONF / "experiment").glob("*.yaml")]
    return {
        "optimizer.name" if key == "optimizer" else key
        for experiment in experiments
        for key in experiment.get("hydra", {}).get("sweeper", {}).get("params", {})
    }  # fmt: skip


def numeric_keys() -> set[str]:
    """Every number of conf/optimizer, conf/schedule, conf/model, conf/training and the seed."""
    keys = {"seed"}
    for section in ("optimizer", "schedule", "model", "training"):
        for file in (CONF / section).glob("*.yaml"):
            keys |= {f"{section}.{key}" for key, value in yaml.safe_load(file.read_text()).items() if is_number(value)}
    return keys


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def test_every_key_of_conf_has_an_alternative_or_a_reason_not_to_turn_weights() -> None:
    assert keys_of_conf() == ALTERNATIVES.keys() | FOR_IMAGES.keys() | TURNS_NO_WEIGHT.keys()
    assert not ALTERNATIVES.keys() & TURNS_NO_WEIGHT.keys()


def test_every_key_that_is_swept_and_every_number_is_turned_below() -> None:
    assert {"optimizer.learning_rate", "model.hidden_size"} <= swept_keys()
    assert {"optimizer.beta_1", "optimizer.momentum", "training.batch_size", "seed"} <= numeric_keys()
    assert "model.filters" in knobs_of_own_models()
    assert swept_keys() | numeric_keys() <= ALTERNATIVES.keys() | FOR_IMAGES.keys() | knobs_of_own_models()


@pytest.mark.parametrize("key", ALTERNATIVES)
def test_no_knob_is_dead(key: str) -> None:
    common, value = ALTERNATIVES[key]
    assert differ(final_weights(tuple(common)), final_weights((*common, f"{key}={value}")))


@pytest.mark.parametrize("key", FOR_IMAGES)
def test_no_knob_is_dead_with_images_in_minibatches(key: str, tiny_images: Arrays) -> None:
    finals = []
    for overrides in (SMALL_IMAGES, (*SMALL_IMAGES, f"{key}={FOR_IMAGES[key]}")):
        history = trained(config(*overrides), arrays=tiny_images)[0]
        finals.append(dict(history.snapshots[max(history.snapshots)]))
    assert differ(*finals)


def test_a_dead_knob_would_be_seen() -> None:
    """`initial_weight` turns nothing where weights are drawn: then nothing differs."""
    assert not differ(final_weights(TABLE), final_weights((*TABLE, "model.initial_weight=3")))


@pytest.mark.parametrize(
    "override",
    [
        "study=other",
        "recording.metrics_every=1",
        "recording.snapshots=2",
        "recording.weight_metrics=true",
        "recording.direction_changes=false",
        "recording.table_epochs=1",
    ],
)
def test_what_is_said_to_turn_no_weight_turns_none(override: str) -> None:
    assert not differ(final_weights(TABLE), final_weights((*TABLE, override)))


def test_points_of_two_engines_of_keras_are_two_points(monkeypatch: pytest.MonkeyPatch) -> None:
    point = config("experiment=three_bits", "backend=keras")
    on_numpy = config("experiment=three_bits")
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    before = signature(point, SUMS), signature(on_numpy, SUMS)
    assert computed_by(point) == ["numpy", "keras", "tensorflow"]
    assert "tensorflow" not in computed_by(on_numpy)
    monkeypatch.setattr(engines, "find_spec", lambda name: name)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert computed_by(point) == ["numpy", "keras", "jax"]
    assert signature(point, SUMS) != before[0]
    assert signature(on_numpy, SUMS) == before[1]


# --- checksums of code that are kept on disk


def test_checksums_of_code_are_kept_and_a_damaged_file_of_them_does_not_count(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before = signatures()
    [kept] = (package / "__pycache__").glob("signed_code.*.json")
    identity.code_sha256.cache_clear()
    assert signatures() == before
    assert identity.code_sha256.cache_info().misses == 0
    for damaged in ("", "{", "[]", '{"a": 1}', '{"a": "not a checksum"}'):
        kept.write_text(damaged)
        assert signatures() == before
    kept.unlink()
    kept.mkdir()
    assert signatures() == before
