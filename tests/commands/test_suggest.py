from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from pipeline.backends.shared.history import History, note_update
from pipeline.diagnosis.range_test import range_test
from pipeline.points.point import Point, outcome_of
from pipeline.studies.kinds import answers, headline, point_figures
from pipeline.suggest import suggest, suggested_rates
from pipeline.system.errors import LabError
from tests.support.hostile import refuses_without_results
from tests.support.trained import config, write_results


def range_point(losses: list[float], *overrides: str) -> Point:
    """A range test whose rate rises from 0.001 to 1 while its minibatches have these losses."""
    one = config("experiment=lr_range_test", "training.epochs=1", "model.hidden_size=2", *overrides)
    history = History(epochs=1)
    for update, (rate, loss) in enumerate(zip(np.geomspace(0.001, 1, len(losses)), losses, strict=True)):
        note_update(history, update, float(rate), loss)
    history.record(1, {"train/loss": losses[-1]})
    shapes = {"layer_0/weights": (784, 2), "layer_0/bias": (2,), "layer_1/weights": (2, 10), "layer_1/bias": (10,)}
    history.snapshot(1, {name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    name = ",".join(overrides) or "range"
    return Point(name, Path(), one, history, outcome_of(history))


FALLING = [2.0] * 20 + np.linspace(2, 0.5, 30).tolist() + [9.0] * 10


def test_the_rates_around_the_suggested_one_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(tmp_path / "results", "lr_range_test", "numpy", [range_point(FALLING)])
    folder = tmp_path / "results" / "lr_range_test" / "numpy"
    read = range_test(range_point(FALLING).history)
    assert read is not None
    assert suggested_rates(folder, [1]) == [float(f"{read.rates[read.lowest] / 3:.2g}")]
    suggest(OmegaConf.create({"results": str(folder), "factors": [0.1, 1, 10]}))
    small, middle, large = map(float, capsys.readouterr().out.split(","))
    assert (small, middle, large) == pytest.approx((middle / 10, middle, middle * 10), rel=0.05)


def test_of_several_seeds_the_geometric_mean_is_printed(tmp_path: Path) -> None:
    later = [2.0] * 10 + FALLING[:50] + [9.0] * 10
    points = [range_point(FALLING), range_point(later, "seed=2"), range_point(FALLING[:50], "seed=3")]
    rates = [test.suggested_rate for point in points[:2] if (test := range_test(point.history)) is not None]
    assert rates == [pytest.approx(0.1, rel=0.05), pytest.approx(0.1225, rel=0.05)]
    write_results(tmp_path / "results", "lr_range_test", "numpy", points)
    folder = tmp_path / "results" / "lr_range_test" / "numpy"
    assert suggested_rates(folder, [1]) == [float(f"{np.sqrt(np.prod(np.array(rates, float))):.2g}")]


def test_a_point_says_what_it_suggests() -> None:
    point = range_point(FALLING)
    found = point.diagnosis
    assert found.verdict == "range test"
    assert found.evidence.startswith("suggested rate 0.1, one third of 0.3")
    assert ", where the smoothed loss is lowest (" in found.evidence
    assert found.values["suggested_rate"] == pytest.approx(0.1, rel=0.05)
    assert headline([point]) == "suggested rate 0.1 (one seed: the spread is unknown)"
    assert next(answers([point])).startswith("the range test suggests a rate of 0.1 (one seed: the spread is unknown)")
    assert "range_test" in dict(point_figures(point))


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ([], "There are no results"),
        (
            [range_point(np.linspace(1, 3, 40).tolist())],
            r"suggests no rate(.|\n)*lowest at the start, 0\.001(.|\n)*smaller rates",
        ),
        (
            [range_point(FALLING), range_point(FALLING[:50], "seed=2"), range_point(FALLING[:50], "seed=3")],
            r"1 of 3 seeds has a clear minimum, too few to suggest a rate: with seeds 2 and 3, .* not rise again",
        ),
        ([range_point(FALLING), range_point(FALLING, "training.batch_size=64")], "differ in more than the seed"),
        ([range_point(FALLING), range_point(FALLING, "recording.update_losses=false", "seed=2")], "not a range test"),
        ([range_point(FALLING, "recording.update_losses=false")], "is not a range test"),
        ([range_point([2.36, 1.55])], r"too short to suggest a rate(.|\n)*at least 3 updates(.|\n)*received: 2"),
        ([range_point([2.36, 2.2, 1.9, 1.55])], r"at least 27 updates .*from rate 0\.001 to 1\n *received: 4"),
        ([range_point([1.0, 9.0, 9.0, 9.0])], r"0\.25 decades"),
    ],
)
def test_a_folder_that_suggests_nothing_says_so(tmp_path: Path, points: list[Point], said: str) -> None:
    if points:
        write_results(tmp_path / "results", "lr_range_test", "numpy", points)
    with pytest.raises(LabError, match=said):
        suggested_rates(tmp_path / "results" / "lr_range_test" / "numpy", [1])


@pytest.mark.parametrize("factors", [[], 3, ["a"], [-1], [True]])
def test_factors_that_are_not_positive_numbers_are_refused(factors: object) -> None:
    with pytest.raises(LabError, match="Invalid factors"):
        suggest(OmegaConf.create({"results": "results", "factors": factors}))


def test_entry_point_refuses_without_a_traceback(tmp_path: Path) -> None:
    refuses_without_results("suggest", tmp_path)


@pytest.mark.parametrize(("losses", "verdict"), [((0.5, 0.1, 0.9), "gives"), ((0.1, 0.5, 0.9), "does not give")])
def test_the_check_says_whether_the_suggested_rate_ends_lowest(losses: tuple[float, ...], verdict: str) -> None:
    points: list[Point] = []
    for rate, loss in zip((0.01, 0.1, 1), losses, strict=True):
        history = History(epochs=2)
        history.record(2, {"train/loss": loss, "test/loss": loss, "test/accuracy": 1 - loss})
        one = config("experiment=lr_range_check", "data.validation_share=0", f"optimizer.learning_rate={rate}")
        points.append(Point(f"learning_rate={rate:g}", Path(), one, history, outcome_of(history)))
    assert next(answers(points)) == f"the suggested rate, 0.1, {verdict} the highest test accuracy of the three."
