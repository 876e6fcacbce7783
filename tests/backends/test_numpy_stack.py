"""A stack of points: many updates in one call equal the same updates one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.backends.numpy import descent
from pipeline.backends.numpy.optimizers.by_name import OPTIMIZERS
from pipeline.backends.numpy.stack import Stack
from pipeline.backends.shared.initial_weights import draw
from pipeline.data.arrays import load
from tests.support.methods import SCHEDULES
from tests.support.trained import config

BITS = ("experiment=three_bits", "model.hidden_size=4", "model.bias=true")
LINE = ("experiment=line_y2x", "gradient=backpropagation", "recording.direction_changes=true")


def stack(study: tuple[str, ...], rates: tuple[float, ...]) -> Stack:
    points = [config(*study, f"optimizer.learning_rate={rate}") for rate in rates]
    arrays = load(points[0].data, points[0].dtype, Path())
    return Stack(points, arrays, [draw(p.dense, arrays.features, arrays.outputs, p.seed, p.dtype) for p in points])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("study", "rates"), [(BITS, (0.1, 10.0)), (LINE, (0.01, 0.3, 1e30)), (LINE, (0.02,))])
def test_to_advance_is_to_differentiate_and_move(
    study: tuple[str, ...], rates: tuple[float, ...], optimizer: str
) -> None:
    one, other = (stack((*study, f"optimizer={optimizer}"), rates) for _ in range(2))
    with np.errstate(all="ignore"):
        for updates in (1, 7, 64, 200, 64):
            one.advance(updates)
            for _ in range(updates):
                (batches,) = other.batches(1)
                losses, _ = other.differentiate(batches, measured=False)
                other.progress.see_losses(losses)
                other.move()
            for place in range(len(rates)):
                state, expected = one.progress.state_of(place), other.progress.state_of(place)
                assert list(state) == list(expected)
                for name, array in state.items():
                    np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert one.progress.updates == 336
    if optimizer == "sgd" and study is LINE and len(rates) > 1:
        assert (one.progress.diverged_step >= 0).tolist() == [False, True, True]


@pytest.mark.parametrize("name", ["step", "cosine"])
def test_a_schedule_goes_on_where_updates_are_made_many_at_a_time(name: str) -> None:
    """Also where a point diverges, and its updates are made again one by one."""
    study = (*LINE, "training.epochs=336", *SCHEDULES[name])
    one, other = (stack(study, (0.01, 30.0)) for _ in range(2))
    with np.errstate(all="ignore"):
        one.advance(100)
        one.advance(236)
        for _ in range(336):
            losses, _ = other.differentiate([], measured=False)
            other.progress.see_losses(losses)
            other.move()
    assert (one.progress.diverged_step >= 0).tolist() == [False, True]
    for place in range(2):
        state, expected = one.progress.state_of(place), other.progress.state_of(place)
        assert all(np.array_equal(array, expected[key], equal_nan=True) for key, array in state.items())


@pytest.mark.parametrize("rate", ["optimizer=nadam", "optimizer.output_learning_rate=0.5"])
@pytest.mark.parametrize("name", ["constant", "cosine", "reduce_on_plateau"])
def test_a_large_network_moves_part_by_part_as_in_one_piece(
    name: str, rate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = (*BITS, "training.batch_size=2", "training.epochs=12", rate, *SCHEDULES.get(name, ()))
    states = []
    for chunk in (descent.CHUNK, 5):
        monkeypatch.setattr(descent, "CHUNK", chunk)
        one = stack(study, (0.1, 10.0))
        for epoch in range(1, 13):
            for batches in one.batches(epoch):
                losses, _ = one.differentiate(batches, measured=False)
                one.move()
            # The first point's loss does not fall, so that only its rate is reduced.
            one.descent.end_epoch(losses * [0, 1] + [1, 0])
        states.append(one.progress.state_of(0) | {f"second/{key}": at for key, at in one.progress.state_of(1).items()})
    whole, in_parts = states
    for key, array in whole.items():
        np.testing.assert_array_equal(in_parts[key], array, err_msg=key)


def test_where_the_rate_goes_by_the_loss_every_epoch_is_looked_at() -> None:
    assert stack((*BITS, *SCHEDULES["reduce_on_plateau"]), (0.1,)).stride == 1
    assert stack((*BITS, *SCHEDULES["cosine"]), (0.1,)).stride > 1


def test_minibatches_do_not_advance() -> None:
    points = stack((*LINE, "training.batch_size=2"), (0.1,))
    assert points.stride == 1
    with pytest.raises(ValueError, match="not computed together"):
        points.advance(3)
