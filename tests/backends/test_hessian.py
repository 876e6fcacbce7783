"""Products of the Hessian against differences of gradients, whole Hessians and Keras; the largest eigenvalues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.backends.curvature import eigenvalues
from pipeline.backends.curvature.eigenvalues import largest_eigenvalues
from pipeline.backends.curvature.hessian import Hessian
from pipeline.backends.numpy.network import Parameters
from pipeline.backends.numpy.network import stack as stacked
from pipeline.backends.numpy.stack import Stack
from pipeline.backends.shared.initial_weights import Weights, draw, is_trained
from pipeline.config.schema import Config
from pipeline.data.arrays import Arrays
from tests.support.trained import config

ROWS, FEATURES, OUTPUTS = 9, 6, 3
NETWORK = ("experiment=mnist", "dtype=float64", "model.hidden_size=5", "training.batch_size=null", "repeats=1")
ACTIVATIONS = ("sigmoid", "relu", "tanh", "gelu", "leaky_relu", "softplus")
# With the activation of the last layer.
LOSSES = (
    ("cross_entropy", "softmax"),
    ("binary_cross_entropy", "sigmoid"),
    ("mean_squared_error", "sigmoid"),
    ("mean_squared_error", "identity"),
    ("half_summed_squared_error", "sigmoid"),
    ("mean_absolute_error", "sigmoid"),
    ("huber", "identity"),
    ("huber", "sigmoid"),
)
FEATURES_OF_NETWORKS = {
    "none": (),
    "two layers": ("model.further_hidden_sizes=[4]",),
    "no hidden layer": ("model.hidden_size=null",),
    "no bias": ("model.bias=false",),
    "batch normalization": ("model.batch_normalization=true",),
    "dropout": ("model.dropout=0.4",),
    "DropConnect": ("model.drop_connect=0.3",),
    "l1 and l2": ("training.l1=0.01", "training.l2=0.02"),
    "maximal update": (
        "model.parametrization=maximal_update",
        "model.base_hidden_size=2",
        "model.initializer=he_normal",
    ),
    "all": (
        "model.further_hidden_sizes=[4,3]",
        "model.batch_normalization=true",
        "model.dropout=0.3",
        "model.drop_connect=0.2",
        "training.l2=0.01",
    ),
}


def point(loss: str, output: str, *overrides: str, seed: int = 1) -> Config:
    made = config(*NETWORK, *overrides)
    model = made.dense.model_copy(update={"output_activation": output})
    return made.model_copy(update={"loss": loss, "model": model, "seed": seed})


def rows(loss: str, seed: int = 0) -> Arrays:
    random = np.random.default_rng(seed)
    targets: Any = random.uniform(-2, 2, (ROWS, OUTPUTS))
    if loss == "cross_entropy":
        targets = random.integers(0, OUTPUTS, ROWS)
    elif loss == "binary_cross_entropy":
        targets = random.integers(0, 2, (ROWS, OUTPUTS)).astype(np.float64)
    return Arrays(random.normal(size=(ROWS, FEATURES)), targets, None, None, OUTPUTS, {}, "float64")


def weights_of(made: Config, seed: int = 0) -> Weights:
    """Weights that no kink is near, away from the initial ones, whose biases are 0."""
    random = np.random.default_rng(seed)
    drawn = draw(made.dense, FEATURES, OUTPUTS, made.seed, "float64")
    return {name: array + random.normal(size=array.shape) * is_trained(name) / 2 for name, array in drawn.items()}


def hessian_of(points: list[Config], arrays: Arrays, networks: list[Weights]) -> Hessian:
    trained = [{name: array for name, array in network.items() if is_trained(name)} for network in networks]
    return Hessian(points, stacked(trained), arrays.train_inputs, arrays.train_targets)


def gradient_of(made: Config, arrays: Arrays, network: Weights) -> tuple[float, Parameters]:
    """The loss and the gradient with which the NumPy backend trains."""
    stack = Stack([made], arrays, [network])
    losses, _ = stack.differentiate(next(stack.batches(1)), measured=False)
    return float(losses[0]), {name: array[:1] for name, array in stack.gradient.arrays.items()}


def moved(network: Weights, along: Mapping[str, Any], step: float) -> Weights:
    return {
        name: array + step * along[name].reshape(array.shape) if name in along else array
        for name, array in network.items()
    }


def assert_products_are_differences(made: Config, arrays: Arrays, network: Weights) -> None:
    """H v against differences of the gradient of training.

    The central difference d(h) = (g(w + h v) - g(w - h v)) / 2 h is off by a multiple of h^2, which drops out of
    (4 d(h) - d(2 h)) / 3.
    """
    hessian = hessian_of([made], arrays, [network])
    loss, gradient = gradient_of(made, arrays, network)
    assert hessian.losses[0] == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(hessian.gradient, hessian.packed(gradient), rtol=1e-10, atol=1e-13)
    direction = np.random.default_rng(5).normal(size=hessian.shape)
    along = {name: array[0] for name, array in hessian.unpacked(direction).items()}

    def difference(step: float) -> Any:
        there, back = (gradient_of(made, arrays, moved(network, along, sign * step))[1] for sign in (1, -1))
        return (hessian.packed(there) - hessian.packed(back)) / (2 * step)

    expected = (4 * difference(1e-5) - difference(2e-5)) / 3
    product = hessian @ direction
    assert np.abs(product - expected).max() < 1e-7 * max(1, np.abs(expected).max())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("loss", "output"), LOSSES)
def test_a_product_is_the_change_of_the_gradient(loss: str, output: str, activation: str) -> None:
    made = point(loss, output, f"model.hidden_activation={activation}", "model.further_hidden_sizes=[4]")
    assert_products_are_differences(made, rows(loss), weights_of(made))


@pytest.mark.parametrize("features", FEATURES_OF_NETWORKS.values(), ids=FEATURES_OF_NETWORKS)
@pytest.mark.parametrize(("loss", "output"), [LOSSES[0], LOSSES[2]])
def test_every_feature_of_a_network_is_in_the_product(loss: str, output: str, features: tuple[str, ...]) -> None:
    made = point(loss, output, "model.hidden_activation=tanh", *features)
    assert_products_are_differences(made, rows(loss), weights_of(made))


@given(
    activation=st.sampled_from(["tanh", "sigmoid", "gelu", "softplus"]),
    loss=st.sampled_from(LOSSES[:4]),
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    normalized=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_any_smooth_network(
    activation: str, loss: tuple[str, str], sizes: list[int], normalized: bool, seed: int
) -> None:
    first, *further = sizes
    name, output = loss
    model = {"hidden_size": first, "further_hidden_sizes": tuple(further), "hidden_activation": activation}
    made = point(name, output)
    features = made.dense.model_copy(update={**model, "batch_normalization": normalized})
    made = made.model_copy(update={"model": features})
    assert_products_are_differences(made, rows(name, seed), weights_of(made, seed))


def test_a_point_in_a_stack_has_the_hessian_that_it_has_alone() -> None:
    overrides = FEATURES_OF_NETWORKS["all"]
    points = [point(*LOSSES[0], *overrides, seed=seed) for seed in (1, 2)]
    networks = [weights_of(made, made.seed) for made in points]
    arrays = rows("cross_entropy")
    together = hessian_of(points, arrays, networks)
    directions = np.random.default_rng(3).normal(size=together.shape)
    for index, (made, network) in enumerate(zip(points, networks, strict=True)):
        alone = hessian_of([made], arrays, [network]) @ directions[index : index + 1]
        np.testing.assert_allclose((together @ directions)[index], alone[0], rtol=1e-12, atol=1e-14)


def whole(hessian: Hessian) -> np.ndarray[Any, Any]:
    """The Hessian itself, (grid, weights, weights)."""
    grid, weights = hessian.shape
    return np.stack([hessian @ np.tile(one, (grid, 1)) for one in np.eye(weights)], axis=1)


@pytest.mark.parametrize("features", [(), FEATURES_OF_NETWORKS["all"], ("model.hidden_size=25",)])
def test_the_largest_eigenvalues_are_those_of_the_whole_hessian(
    features: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [point(*LOSSES[0], "model.hidden_activation=tanh", *features, seed=seed) for seed in (1, 2)]
    hessian = hessian_of(points, rows("cross_entropy"), [weights_of(made, made.seed) for made in points])
    matrices = whole(hessian)
    np.testing.assert_allclose(matrices, matrices.swapaxes(1, 2), rtol=1e-9, atol=1e-12)
    expected = np.linalg.eigvalsh(matrices)[:, ::-1][:, :3]
    assert hessian.shape[1] <= 300
    exact = largest_eigenvalues(hessian, 3)
    monkeypatch.setattr(eigenvalues, "WHOLE", 0)
    by_lanczos = largest_eigenvalues(hessian, 3, tolerance=1e-12)
    for found in (exact, by_lanczos):
        np.testing.assert_allclose(found.values, expected, rtol=1e-8)
    assert (by_lanczos.products < hessian.shape[1]).any() or hessian.shape[1] < 100
    np.testing.assert_allclose(largest_eigenvalues(hessian, 1).values, expected[:, :1], rtol=1e-5)


def test_factors_of_the_rates_are_in_the_eigenvalues(monkeypatch: pytest.MonkeyPatch) -> None:
    made = point(*LOSSES[0], "model.hidden_activation=tanh")
    hessian = hessian_of([made], rows("cross_entropy"), [weights_of(made)])
    factors = np.random.default_rng(2).uniform(0, 5, hessian.shape)
    # Of a matrix that is not symmetric, in another way than the code does it.
    expected = np.linalg.eigvals(factors[0][:, None] * whole(hessian)[0]).real.max()
    assert largest_eigenvalues(hessian, factors=factors).values[0, 0] == pytest.approx(expected, rel=1e-8)
    monkeypatch.setattr(eigenvalues, "WHOLE", 0)
    assert largest_eigenvalues(hessian, factors=factors).values[0, 0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("size", [2, 200], ids=["whole", "Lanczos"])
def test_a_hessian_that_is_not_finite_or_is_zero(size: int) -> None:
    made = point(*LOSSES[3], f"model.hidden_size={size}", "model.hidden_activation=relu")
    network = weights_of(made)
    arrays = rows("mean_squared_error")
    broken = {name: array * np.inf for name, array in network.items()}
    with np.errstate(invalid="ignore", over="ignore"):
        assert np.isnan(largest_eigenvalues(hessian_of([made], arrays, [broken])).values).all()
    # No unit is active, and the outputs do not depend on the weights before them.
    dead = {name: -np.abs(array) for name, array in network.items()}
    no_bias = made.model_copy(update={"model": made.dense.model_copy(update={"bias": False})})
    positive = Arrays(np.abs(arrays.train_inputs), arrays.train_targets, None, None, OUTPUTS, {}, "float64")
    without = {name: array for name, array in dead.items() if "bias" not in name}
    assert largest_eigenvalues(hessian_of([no_bias], positive, [without])).values.tolist() == [[0.0]]


class Overflowing:
    """A Hessian whose products are no numbers from the fifth on, as near the end of a training that diverges."""

    def __init__(self) -> None:
        self.shape = (1, 100)
        self.losses: NDArray[np.floating] = np.ones(1)
        self.made = 0

    def __matmul__(self, vectors: Any) -> Any:
        self.made += 1
        return vectors * (np.arange(100) if self.made < 5 else np.nan)

    def point(self, index: int) -> Overflowing:
        return self


def test_products_that_overflow_leave_the_curvature_unknown() -> None:
    found = largest_eigenvalues(Overflowing())
    assert np.isnan(found.values).all()
    assert 5 <= found.products[0] < 100


@pytest.mark.parametrize(("loss", "output"), [*LOSSES[:4], LOSSES[7]])
def test_keras_has_the_same_hessian(loss: str, output: str) -> None:
    from pipeline.backends.keras.building import build
    from pipeline.backends.keras.precision import floatx

    overrides = ("model.hidden_activation=tanh", "model.further_hidden_sizes=[4]")
    made = point(loss, output, *overrides)
    arrays = rows(loss)
    in_keras = made.model_copy(update={"backend": config("backend=keras").backend})
    with floatx("float64"):
        network = build(in_keras, arrays)[0]
    tensorflow = pytest.importorskip("tensorflow")
    weights = weights_of(made)
    for variable, array in zip(network.trainable_variables, weights.values(), strict=True):
        variable.assign(array)
    hessian = hessian_of([made], arrays, [weights])
    direction = np.random.default_rng(8).normal(size=hessian.shape)
    along = [array.reshape(weights[name].shape) for name, array in hessian.unpacked(direction).items()]
    variables = [variable.value for variable in network.trainable_variables]
    with tensorflow.autodiff.ForwardAccumulator(variables, [tensorflow.constant(one) for one in along]) as forward:
        with tensorflow.GradientTape() as tape:
            outputs = network(arrays.train_inputs, training=True)
            value = network.compute_loss(x=None, y=tensorflow.constant(arrays.train_targets), y_pred=outputs)
        gradients = tape.gradient(value, variables)
    products = {name: np.asarray(forward.jvp(g))[None] for name, g in zip(weights, gradients, strict=True)}
    expected = np.concatenate([cast(Any, array).reshape(1, -1) for array in products.values()], axis=1)
    np.testing.assert_allclose(hessian @ direction, expected, rtol=1e-9, atol=1e-10)
