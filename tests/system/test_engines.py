"""The engine of Keras: which names are taken, and what is said of the others."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from pipeline.system import engines
from pipeline.system.engines import ENGINES, OPERATIONS, THREADS, check_threads, keras_engine, use_threads
from pipeline.system.errors import LabError


@pytest.mark.parametrize("value", ["", "tensorflow"])
def test_keras_runs_on_tensorflow_unless_the_environment_names_another(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", value)
    assert keras_engine() == "tensorflow"


@pytest.mark.parametrize(("value", "meant"), [("tensorfow", "tensorflow"), ("JAX", "jax"), ("numpy", "tensorflow")])
def test_another_name_is_one_message(monkeypatch: pytest.MonkeyPatch, value: str, meant: str) -> None:
    monkeypatch.setenv("KERAS_BACKEND", value)
    with pytest.raises(LabError, match=f"received: {value}\n  to do:    KERAS_BACKEND={meant}$"):
        keras_engine()


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_that_is_not_installed_is_one_message(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("KERAS_BACKEND", name)
    monkeypatch.setattr(engines, "find_spec", lambda asked: None if asked == name else find_spec(asked))
    with pytest.raises(LabError, match=f"Keras cannot run on {name}, which is not installed"):
        keras_engine()


def test_the_threads_of_torch_are_set_and_those_of_jax_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    monkeypatch.setattr(engines, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(set_num_threads=counts.append))
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    for count in (3, 1):
        check_threads(count)
        use_threads(count)
    assert counts == [3, 1]
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    check_threads(None)
    with pytest.raises(LabError, match=r"(?s)threads of jax cannot be set.*received: threads=2"):
        check_threads(2)


def test_a_process_keeps_its_first_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_chosen", [])
    monkeypatch.setenv(THREADS, "7")
    monkeypatch.setenv(OPERATIONS, "7")
    use_threads(3)
    use_threads(3)
    assert (os.environ[THREADS], os.environ[OPERATIONS]) == ("3", "1")
    with pytest.raises(LabError, match=r"(?s)Keras computes with 3 threads in this process.*received: threads=1"):
        use_threads(1)
    assert os.environ[THREADS] == "3"
