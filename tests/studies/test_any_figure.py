"""Every figure of every kind of study can be drawn from whatever numbers training leaves behind."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pipeline.backends.numpy.curves.rolling import OUTCOMES
from pipeline.backends.numpy.maps.measures import NUMBERS
from pipeline.backends.shared.history import History, note_update
from pipeline.config.schema import Config
from pipeline.drawing.layout import save_png
from pipeline.points.point import Point, outcome_of
from pipeline.studies import kinds
from pipeline.studies.images.stepped import stepped_images
from pipeline.studies.study_pictures import recorded_figure
from tests.support.curves import BASINS, ball_point
from tests.support.maps import listed, map_point
from tests.support.trained import config

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPOCHS = 3
LARGEST = 1.7e308
# What an array may hold: numbers up to a size, one number throughout, or ordinary numbers of which one ran away.
SCALES = (1.0, 0.0, 1e-300, 5e-324, 1e-30, 1e3, 1e30, 1e300, LARGEST)
SIZE = st.sampled_from(SCALES)
NUMBER = st.one_of(st.floats(-10, 10), st.builds(lambda size, sign: sign * size, SIZE, st.sampled_from((-1.0, 1.0))))
POSITIVE = st.builds(abs, NUMBER)
RATES = st.sampled_from((1.0, 0.001, 10.0, 5e-324, 1e-300, 1e300, 1.7e308))
FILLINGS = st.sampled_from(("ordinary", "constant", "one ran away", "inf", "nan"))


@st.composite
def arrays(draw: st.DrawFn, shape: tuple[int, ...], dtype: str = "float64") -> NDArray[Any]:
    """Return an array of a shape: finite, constant, with a number that ran away, or with inf or NaN."""
    random = np.random.default_rng(draw(st.integers(0, 99)))
    filling = draw(FILLINGS)
    values = random.uniform(-1, 1, shape) * draw(SIZE)
    if filling == "constant":
        values = np.full(shape, draw(NUMBER))
    elif filling != "ordinary":
        ran_away = {"one ran away": draw(NUMBER), "inf": np.inf, "nan": np.nan}
        values.flat[random.integers(values.size)] = ran_away[filling]
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def png(figure: Figure) -> None:
    """Save a figure, and read it back."""
    buffer = io.BytesIO()
    save_png(figure, buffer)
    is_a_picture(Image.open(buffer))


def is_a_picture(image: Image.Image) -> None:
    pixels = np.asarray(image.convert("L"))
    assert min(pixels.shape) > 100
    assert pixels.min() < pixels.max()


def with_rate(one: Config, rate: float) -> Config:
    return one.model_copy(update={"optimizer": one.optimizer.model_copy(update={"learning_rate": rate})})


def with_seeds(one: Config, count: int) -> list[Config]:
    return [one.model_copy(update={"seed": seed}) for seed in range(1, 1 + count)]


@st.composite
def networks(draw: st.DrawFn, one: Config, shapes: Mapping[str, tuple[int, ...]], metrics: Sequence[str]) -> Point:
    """Return a network that training left with any numbers; it may have diverged, even before its first record."""
    history = History(epochs=EPOCHS)
    if draw(st.booleans()):
        history.diverged_step = 2
    for step in sorted(draw(st.sets(st.integers(0, EPOCHS)))):
        history.record(step, {name: draw(POSITIVE) for name in metrics if not name.startswith("weights")})
        history.record(step, {name: draw(NUMBER) for name in metrics if name.startswith("weights")})
    dtype = draw(st.sampled_from(("float32", "float64")))
    for step in (0, 1, EPOCHS):
        history.snapshot(step, {name: draw(arrays(shape, dtype)) for name, shape in shapes.items()})
    return Point(f"{one.optimizer.learning_rate} {one.model.hidden_size}", Path(), one, history, outcome_of(history))


LOSSES = ("train/loss", "train/mean_absolute_error")
SCORES = ("train/loss", "train/accuracy", "test/loss", "test/accuracy")
LASTING = f"training.epochs={EPOCHS}"
HIDDEN = ("layer_0/weights", "layer_0/bias", "layer_1/weights", "layer_1/bias")
ONE_RATE = ("optimizer.learning_rate=1", LASTING)
HUGE_LINE = ("dtype=float64", "data.inputs=[[1e308],[-1e308],[1],[2]]", "data.targets=[[-1e308],[1e308],[1],[2]]")
HUGE_INPUTS = "data.inputs=[[1e308,1],[-1e308,0],[1,0],[0,0]]"
HUGE_TARGETS = "data.targets=[[1e308],[-1e308],[0],[1]]"
LINE = {"layer_0/weights": (1, 1), "layer_0/bias": (1,)}
PAIR = {"layer_0/weights": (2, 1)}
# A config for each kind of network, with the shapes of its weights and its metrics.
NETWORKS: dict[str, tuple[Config, Mapping[str, tuple[int, ...]], tuple[str, ...]]] = {
    "a line": (config("experiment=line_y3x", *ONE_RATE), LINE, (*LOSSES, "weights/weight")),
    "a line of huge numbers": (config("experiment=line_y3x", *ONE_RATE, *HUGE_LINE), LINE, (*LOSSES, "weights/weight")),
    "two weights": (config("experiment=two_bits", LASTING), PAIR, LOSSES),
    "two weights, huge inputs": (config("experiment=two_bits", "dtype=float64", LASTING, HUGE_INPUTS), PAIR, LOSSES),
    "two weights, huge targets": (config("experiment=two_bits", "dtype=float64", LASTING, HUGE_TARGETS), PAIR, LOSSES),
    "few weights": (config("experiment=three_bits", *ONE_RATE, "model.hidden_size=4"),
                    {"layer_0/weights": (3, 4), "layer_1/weights": (4, 1)}, LOSSES),
    "many weights": (config("experiment=three_bits", *ONE_RATE, "model.hidden_size=80"),
                     {"layer_0/weights": (3, 80), "layer_1/weights": (80, 1)}, LOSSES),
    "digits": (config("experiment=mnist", *ONE_RATE, "model.hidden_size=4"),
               dict(zip(HIDDEN, ((784, 4), (4,), (4, 10), (10,)), strict=True)), SCORES),
    "no hidden layer": (config("experiment=mnist", *ONE_RATE, "model.hidden_size=null"),
                        {"layer_0/weights": (14, 10), "layer_0/bias": (10,)}, SCORES),
}  # fmt: skip


def draw_all(points: Sequence[Point]) -> None:
    """Draw all that is drawn of these points: one of them, all, as a study, and for the slider; and describe them."""
    for point in points[:1]:
        for _, figure in kinds.point_figures(point):
            png(figure)
        for _, _, image in stepped_images(point.config, point.history):
            is_a_picture(image)
    for _, figure in kinds.sweep_figures(points):
        png(figure)
    png(kinds.study_figure("study", {"numpy": points, "keras": points[:1]}))
    assert all(kinds.answers(points))
    assert kinds.headline(points)


# A figure takes 0.1 s or more, and an example has several. `make examples` tries more of them. To make a failing
# example smaller takes minutes, and a test that runs out of time hides it.
NO_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
EXAMPLES = 10 if settings.get_current_profile_name() == "new" else 2
FEW = settings(max_examples=EXAMPLES, phases=NO_SHRINKING, suppress_health_check=list(HealthCheck))


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@given(data=st.data())
@FEW
def test_any_network_can_be_drawn(name: str, data: st.DataObject) -> None:
    one, shapes, metrics = NETWORKS[name]
    rates = data.draw(st.lists(RATES, min_size=1, max_size=3, unique=True))
    count = data.draw(st.integers(1, 3), label="seeds")
    configs = [config for rate in rates for config in with_seeds(with_rate(one, rate), count)]
    points = [data.draw(networks(config, shapes, metrics)) for config in configs]
    if one.model.hidden_size is not None and data.draw(st.booleans()):
        wider = one.model_copy(update={"model": one.model.model_copy(update={"hidden_size": 9999})})
        points.append(data.draw(networks(wider, shapes, metrics)))
    draw_all(points)


@pytest.mark.slow
@given(data=st.data())
@FEW
def test_any_range_test_can_be_drawn(data: st.DataObject) -> None:
    one = config("experiment=lr_range_test", "model.hidden_size=4", LASTING)
    shapes = {"layer_0/weights": (4, 4), "layer_1/weights": (4, 10)}
    points = []
    for seed in range(data.draw(st.integers(1, 3))):
        point = data.draw(networks(one.model_copy(update={"seed": seed}), shapes, SCORES))
        rates = sorted(data.draw(st.lists(POSITIVE.filter(bool), max_size=30, unique=True)))
        for update, rate in enumerate(rates):
            note_update(point.history, update, rate, data.draw(POSITIVE))
        points.append(point)
    draw_all(points)


@pytest.mark.slow
@given(data=st.data())
@FEW
def test_any_variants_can_be_drawn(data: st.DataObject) -> None:
    shapes = {"layer_0/weights": (3, 4), "layer_1/weights": (4, 1)}
    rates = data.draw(st.lists(RATES, min_size=1, max_size=3, unique=True))
    seeds = data.draw(st.integers(1, 2), label="seeds")
    points = []
    for name in ("sgd", "adam"):
        one = config("experiment=three_bits", "model.hidden_size=4", *ONE_RATE, f"optimizer={name}")
        configs = [own for rate in rates for own in with_seeds(with_rate(one, rate), seeds)]
        points += [data.draw(networks(own, shapes, LOSSES)) for own in configs]
    draw_all(points)


@pytest.mark.slow
@pytest.mark.parametrize(("key", "values"), [("hidden_size", ("4", "8")), ("further_hidden_sizes", ("[]", "[4]"))])
@given(data=st.data())
@FEW
def test_any_widths_and_depths_can_be_drawn(key: str, values: tuple[str, str], data: st.DataObject) -> None:
    rates = data.draw(st.lists(RATES, min_size=3, max_size=4, unique=True))
    points = []
    for name, value in product(("standard", "maximal_update"), values):
        one = config("experiment=width_transfer", "model.hidden_size=4", f"model.parametrization={name}",
                     f"model.{key}={value}", "optimizer.learning_rate=1", LASTING)  # fmt: skip
        sizes = [4, one.dense.hidden_size or 4, *one.dense.further_hidden_sizes, 10]
        shapes = {f"layer_{layer}/weights": pair for layer, pair in enumerate(pairwise(sizes))}
        points += [data.draw(networks(with_rate(one, rate), shapes, SCORES)) for rate in rates]
    draw_all(points)


@pytest.mark.slow
@given(data=st.data())
@FEW
def test_any_batches_can_be_drawn(data: st.DataObject) -> None:
    rates = data.draw(st.lists(RATES, min_size=3, max_size=4, unique=True))
    shapes = {"layer_0/weights": (4, 4), "layer_1/weights": (4, 10)}
    seeds = data.draw(st.integers(1, 2), label="seeds")
    points = []
    for name, size in product(("sgd", "adam"), (16, 64, 256)):
        one = config("experiment=batch_transfer", f"optimizer={name}", f"training.batch_size={size}",
                     "optimizer.learning_rate=1", "model.hidden_size=4", LASTING)  # fmt: skip
        configs = [own for rate in rates for own in with_seeds(with_rate(one, rate), seeds)]
        points += [data.draw(networks(own, shapes, SCORES)) for own in configs]
    draw_all(points)


@pytest.mark.slow
@given(data=st.data())
@FEW
def test_any_warm_ups_can_be_drawn(data: st.DataObject) -> None:
    rates = data.draw(st.lists(RATES, min_size=1, max_size=3, unique=True))
    shapes = {"layer_0/weights": (4, 4), "layer_1/weights": (4, 10)}
    metrics = (*SCORES, "validation/loss", "curvature/largest", "curvature/breaking_rate")
    seeds = data.draw(st.integers(1, 2), label="seeds")
    points = []
    for share in (0, 0.5):
        one = config("experiment=warm_up", f"schedule.warm_up={share}", "model.hidden_size=4", *ONE_RATE)
        configs = [own for rate in rates for own in with_seeds(with_rate(one, rate), seeds)]
        points += [data.draw(networks(own, shapes, metrics)) for own in configs]
    draw_all(points)


@pytest.mark.slow
@given(data=st.data())
@FEW
def test_any_recorded_curvature_can_be_drawn(data: st.DataObject) -> None:
    shapes = {"layer_0/weights": (1, 4), "layer_1/weights": (4, 3)}
    metrics: tuple[str, ...] = (*LOSSES, "curvature/largest", "curvature/breaking_rate")
    rates = data.draw(st.lists(RATES, min_size=1, max_size=3, unique=True))
    seeds = data.draw(st.integers(1, 2), label="seeds")
    points = []
    for name in ("sgd", "adam"):
        one = config("experiment=edge_of_stability", "model.hidden_size=4", "model.further_hidden_sizes=[]", *ONE_RATE,
                     f"optimizer={name}")  # fmt: skip
        recorded = metrics
        if name == "adam":
            recorded = (*metrics, "curvature/preconditioned")
        configs = [own for rate in rates for own in with_seeds(with_rate(one, rate), seeds)]
        points += [data.draw(networks(own, shapes, recorded)) for own in configs]
    draw_all(points)


@pytest.mark.slow
@given(data=st.data())
@FEW
def test_any_landscape_can_be_drawn(data: st.DataObject) -> None:
    one = config("experiment=loss_landscape", "model.hidden_size=4", "model.further_hidden_sizes=[]", *ONE_RATE)
    shapes = {"layer_0/weights": (1, 4), "layer_0/bias": (4,), "layer_1/weights": (4, 3), "layer_1/bias": (3,)}
    rates = data.draw(st.lists(RATES, min_size=1, max_size=3, unique=True))
    draw_all([data.draw(networks(with_rate(one, rate), shapes, LOSSES)) for rate in rates])


@pytest.mark.slow
@given(data=st.data(), axis=st.sampled_from(("[1e-300,1e300]", "[0.5,1]", "[5e-324,1.7e308]", "[0.1,1,10]")))
@FEW
def test_any_map_can_be_drawn(data: st.DataObject, axis: str) -> None:
    point = map_point(*listed("x", "optimizer.learning_rate", axis), "training.epochs=1")
    shape = point.history.map_arrays["measure"].shape
    for name in NUMBERS:
        point.history.map_arrays[name] = data.draw(arrays(shape))
    draw_all([point])


@pytest.mark.slow
@given(data=st.data(), expression=st.sampled_from(("x**2", "0*x", "1e300*x**2", "1e-300*x**2", "1e308*sin(x)")))
@FEW
def test_any_balls_can_be_drawn(data: st.DataObject, expression: str) -> None:
    study, *few = data.draw(st.sampled_from((("curve_divergence",), ("curve_restarts", "balls.random=6"))))
    domains = [1.0, 1e-300]
    # The others are not finite on so wide a domain.
    if expression in ("0*x", "1e308*sin(x)"):
        domains += [1e100, 8e307]
    domain = data.draw(st.sampled_from(domains))
    point = ball_point(study, *few, f"data.expression={expression}", f"data.lowest={-domain}",
                       f"data.highest={domain}", "training.epochs=2")  # fmt: skip
    history = point.history
    for row in history.tables["balls"]:
        row["end"] = data.draw(NUMBER)
        row["outcome"] = data.draw(st.integers(0, len(OUTCOMES) - 1))
    for step, arrays_there in history.snapshots.items():
        ((name, array),) = arrays_there.items()
        history.snapshots[step] = {name: data.draw(arrays(array.shape))}
    draw_all([point])


@pytest.mark.slow
@given(data=st.data(), domain=st.sampled_from((5.0, 1e-300, 50.0)))
@FEW
def test_any_basins_can_be_drawn(data: st.DataObject, domain: float) -> None:
    point = ball_point("curve_basins", *BASINS[1:], f"data.lowest={-domain}", f"data.highest={domain}",
                       f"grid.y.linspace.start={-domain}", f"grid.y.linspace.stop={domain}")  # fmt: skip
    found = point.history.map_arrays
    found["end"] = data.draw(arrays(found["end"].shape))
    found["minimum"] = np.full(found["minimum"].shape, data.draw(st.integers(-2, 0)))
    draw_all([point])


@pytest.mark.slow
@given(data=st.data())
@FEW
def test_any_recorded_run_can_be_drawn(data: st.DataObject) -> None:
    def series() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        values = data.draw(st.lists(NUMBER, min_size=1, max_size=3))
        return np.arange(float(len(values))), np.array(values)

    rates = (1e-300, 0.1, 1e300)
    run = {rate: {name: series() for name in data.draw(st.sets(st.sampled_from(SCORES)))} for rate in rates}
    run[0.1]["train/loss"] = series()
    png(recorded_figure("run", run))
