"""The curvature at the records of a training: the same on both backends, and no other training for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.backends.curvature import stack_curvature
from pipeline.backends.curvature.breaking import breaking_rate
from pipeline.backends.curvature.curved import sample
from pipeline.backends.curvature.eigenvalues import largest_eigenvalues
from pipeline.backends.curvature.hessian import Hessian
from pipeline.backends.numpy.network import stack as stacked
from pipeline.backends.shared.history import History
from pipeline.backends.shared.initial_weights import is_trained
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays, load
from pipeline.points.identity import signed_folders, signed_text
from pipeline.system.errors import LabError
from tests.backends.test_backends import Backend, backend, both  # noqa: F401 - fixtures
from tests.backends.test_numpy_training import Keeper, assert_same
from tests.support import device_arrays
from tests.support.methods import OPTIMIZERS
from tests.support.trained import config, trained

RECORDED = "recording.curvature=true"
BITS = ("experiment=three_bits", "model.hidden_size=4", "training.epochs=30", "recording.metrics_every=10", "repeats=1")
IMAGES = ("experiment=mnist", "training.epochs=2", "training.batch_size=16", "model.hidden_size=5", "curvature.rows=30",
          "model.hidden_activation=tanh")  # fmt: skip
ADAM = ("optimizer=adam", "optimizer.learning_rate=0.01")


def curvatures(history: History) -> dict[str, list[float]]:
    """The metrics of curvature by name."""
    return {name: history.series(name)[1].tolist() for name in history.names() if name.startswith("curvature/")}


@pytest.mark.parametrize(
    "overrides",
    [BITS, (*BITS, *ADAM), (*BITS, "optimizer=nesterov"), IMAGES, (*IMAGES, "training.l2=0.01", "curvature.count=3")],
    ids=["full batch", "adam", "nesterov", "minibatches", "three of them"],
)
def test_both_backends_record_the_same(
    overrides: tuple[str, ...],
    both: tuple[Backend, Backend],  # noqa: F811
    tiny_images: Arrays,
) -> None:
    arrays = tiny_images if overrides[0] == "experiment=mnist" else None
    ours, theirs = (one.fresh(*overrides, RECORDED, "dtype=float64", arrays=arrays) for one in both)
    found, expected = curvatures(ours), curvatures(theirs)
    assert list(found) == list(expected)
    for name, values in found.items():
        if name != "curvature/products":
            assert values == pytest.approx(expected[name], rel=1e-5), name
    assert len(found["curvature/largest"]) == len(ours.series("train/loss")[1]) + (overrides[0] == "experiment=mnist")


@pytest.mark.parametrize("case", ["adagrad", "adadelta", "rmsprop, momentum", "adamw", "amsgrad", "nadam"])
def test_the_state_of_every_adaptive_method_is_read_on_both(
    case: str,
    both: tuple[Backend, Backend],  # noqa: F811
) -> None:
    overrides = (*BITS, "training.epochs=10", *OPTIMIZERS[case], RECORDED, "dtype=float64")
    ours, theirs = (curvatures(one.fresh(*overrides)) for one in both)
    # An adaptive method has no state before its first update.
    assert len(ours["curvature/preconditioned"]) == len(ours["curvature/largest"]) - 1
    assert ours["curvature/preconditioned"] == pytest.approx(theirs["curvature/preconditioned"], rel=1e-4)
    assert ours["curvature/breaking_rate"] == [
        breaking_rate(config(*overrides).optimizer, value) for value in ours["curvature/preconditioned"]
    ]


def test_it_is_the_curvature_at_the_weights_of_the_record(backend: Backend, tiny_images: Arrays) -> None:  # noqa: F811
    overrides = (*IMAGES, *ADAM, RECORDED)
    history = backend.fresh(*overrides, arrays=tiny_images)
    point = config(*overrides)
    inputs, targets = sample(point, tiny_images, 30)
    assert len(inputs) == 30
    for epoch, value in zip(*history.series("curvature/largest"), strict=True):
        weights = {name: array.astype(np.float64) for name, array in history.snapshots[int(epoch)].items()}
        network = stacked([{name: array for name, array in weights.items() if is_trained(name)}])
        expected = largest_eigenvalues(Hessian([point], network, inputs, targets)).values[0, 0]
        assert value == pytest.approx(expected, rel=1e-5)


def test_recording_it_changes_nothing_else(backend: Backend, tiny_images: Arrays) -> None:  # noqa: F811
    overrides = (*IMAGES, *ADAM, "model.dropout=0.3")
    without = backend.fresh(*overrides, arrays=tiny_images)
    recorded = backend.fresh(*overrides, RECORDED, arrays=tiny_images)
    assert curvatures(without) == {}
    assert without.names() == [name for name in recorded.names() if not name.startswith("curvature/")]
    for epoch, weights in without.snapshots.items():
        for name, array in weights.items():
            assert np.array_equal(array, recorded.snapshots[epoch][name])


def test_a_line_has_the_same_curvature_at_each_record(backend: Backend) -> None:  # noqa: F811
    line = ("experiment=line_y3x", "gradient=backpropagation", "dtype=float64", "training.epochs=50", RECORDED)
    history = backend.fresh(*line, "optimizer.learning_rate=0.01", "recording.metrics_every=10")
    found = curvatures(history)
    records = len(history.series("train/loss")[1])
    assert records >= 5
    assert found["curvature/largest"] == pytest.approx([(17 + np.sqrt(269)) / 2] * records)
    assert found["curvature/breaking_rate"] == pytest.approx([0.11976] * records, rel=1e-4)


def test_a_point_in_a_stack_has_the_curvature_that_it_has_alone(tiny_images: Arrays) -> None:
    points = [config(*IMAGES, *ADAM, RECORDED, f"seed={seed}", f"optimizer.learning_rate={rate}")
              for seed, rate in ((1, 0.01), (1, 0.1), (2, 0.01))]  # fmt: skip
    together = trained(*points, arrays=tiny_images)
    alone = [trained(point, arrays=tiny_images)[0] for point in points]
    for one, other in zip(together, alone, strict=True):
        assert_same(one, other)
    assert curvatures(together[0])["curvature/largest"][0] != curvatures(together[2])["curvature/largest"][0]


def test_a_point_that_diverges_ends_and_the_others_are_measured(tiny_images: Arrays) -> None:
    points = [config(*BITS, RECORDED, "loss=mean_squared_error", "model.output_activation=identity",
                     f"optimizer.learning_rate={rate}") for rate in (0.1, 1e6)]  # fmt: skip
    fine, lost = trained(*points)
    assert lost.diverged_step is not None
    records = len(fine.series("train/loss")[1])
    assert len(curvatures(fine)["curvature/largest"]) == records
    assert 1 <= len(curvatures(lost)["curvature/largest"]) < records
    assert np.isfinite(curvatures(lost)["curvature/largest"]).all()


def test_forward_differences_have_the_exact_curvature() -> None:
    line = ("experiment=line_y3x", RECORDED, "training.epochs=10", "optimizer.learning_rate=0.01")
    by_differences, exact = (
        trained(config(*line, f"gradient={gradient}"))[0] for gradient in ("finite_difference", "backpropagation")
    )
    assert curvatures(by_differences)["curvature/largest"] == curvatures(exact)["curvature/largest"]


@pytest.mark.parametrize("overrides", [(*IMAGES, *ADAM), (*BITS, *ADAM)], ids=["images", "table"])
def test_stopped_and_continued_it_is_the_same(
    overrides: tuple[str, ...],
    backend: Backend,  # noqa: F811
    tiny_images: Arrays,
) -> None:
    point = backend.config(*overrides, RECORDED)
    arrays = tiny_images if overrides[0] == "experiment=mnist" else load(point.data, point.dtype, Path())
    whole = backend.fresh(*overrides, RECORDED, arrays=arrays)
    history, checkpoints = History(), Keeper(1)
    with pytest.raises(KeyboardInterrupt):
        backend.train([point], arrays, [history], lambda epoch, loss: None, checkpoints)
    backend.train([point], arrays, [history], lambda epoch, loss: None, replace_stop(checkpoints))
    assert curvatures(history) == curvatures(whole)


def replace_stop(checkpoints: Keeper) -> Keeper:
    """Let training go on to its end."""
    checkpoints.stop = np.inf
    return checkpoints


def test_points_on_a_gpu_record_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = curvatures(trained(config(*BITS, *ADAM, RECORDED, "dtype=float64"))[0])
    device_arrays.install(monkeypatch)
    found = curvatures(trained(config(*BITS, *ADAM, RECORDED, "dtype=float64", "backend.array_module=cupy"))[0])
    for name, values in found.items():
        assert values == pytest.approx(expected[name], rel=1e-9)


@pytest.mark.parametrize(
    "overrides",
    [
        ("experiment=curve_restarts",),
        ("experiment=trainability_map",),
        ("experiment=methods_three_bits", "optimizer=bfgs"),
        ("experiment=methods_three_bits", "optimizer=annealing"),
        ("experiment=methods_mnist", "optimizer=aw_sgd"),
    ],
)
def test_what_has_no_curvature_is_refused(overrides: tuple[str, ...]) -> None:
    with pytest.raises(LabError, match=r"recording\.curvature: .* needs recording\.curvature=false; received true"):
        config(*overrides, RECORDED)


def test_it_is_part_of_what_a_point_is_only_where_it_is_recorded() -> None:
    def signed(*overrides: str) -> str:
        return signed_text(config(*BITS, *overrides), {})

    plain = signed()
    assert plain == signed("curvature.rows=5", "curvature.count=2")
    assert "backends/curvature" not in plain
    recorded = signed(RECORDED)
    assert "backends/curvature/hessian.py" in recorded
    assert "scipy" in recorded
    assert len({recorded, plain, signed(RECORDED, "curvature.rows=5"), signed(RECORDED, "curvature.count=2")}) == 4
    assert signed_folders(config(*BITS)) == ["backends/numpy"]


def test_points_with_one_seed_are_measured_on_the_same_rows_together(tiny_images: Arrays) -> None:
    points: list[Config] = [config(*IMAGES, f"seed={seed}") for seed in (1, 2, 1)]
    measured = stack_curvature.StackCurvature(points, tiny_images)
    assert [indices for indices, *_ in measured._samples] == [[0, 2], [1]]  # noqa: SLF001
    full = [config(*IMAGES, "training.batch_size=null", f"seed={seed}") for seed in (1, 2, 1)]
    whole = stack_curvature.StackCurvature(full, tiny_images)
    assert [indices for indices, *_ in whole._samples] == [[0, 1, 2]]  # noqa: SLF001


def test_a_rate_that_does_not_follow_from_the_curvature_is_not_recorded() -> None:
    for overrides in (("training.clip_norm=1",), ("optimizer=lion",), ("optimizer.output_learning_rate=0.5",)):
        found = curvatures(trained(config(*BITS, RECORDED, *overrides))[0])
        assert "curvature/largest" in found
        assert "curvature/breaking_rate" not in found


def test_points_that_have_ended_are_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    class Counted(Hessian):
        def __init__(self, configs: Sequence[Config], *arguments: Any) -> None:
            measured.append(len(configs))
            super().__init__(configs, *arguments)

    monkeypatch.setattr(stack_curvature, "Hessian", Counted)
    unbounded = (*BITS, "training.epochs=60", RECORDED, "loss=mean_squared_error", "model.output_activation=identity")
    points = [config(*unbounded, f"optimizer.learning_rate={rate}") for rate in (0.1, 1e6)]
    trained(*points)
    assert measured[0] == 2
    assert measured[-1] == 1
