"""Every threshold of a diagnosis in one table: its value, what it means, and the reason for the value.

`docs/diagnosis.md` shows the table; a test checks that the two agree.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.diagnosis import range_test

GOAL = 0.02
TREND = 0.01
SURE = 2.0
GROWN = 10
ENOUGH = 10
ROUGH = 0.25
SWING = 0.01
SWING_OF_MINIBATCHES = 0.1
REVERSALS = 0.5
FLAT = 1e-3
SATURATED = 1e-3
SMALL_STEP = 1e-4
RISE = 0.1
RISE_OVER_NOISE = 3.0
RISING_RECORDS = 3
NOISE = 2.8
OVERSHOT = 0.01
OVERSHOT_OF_OTHERS = 0.5
FORESEEABLE = 100


class Threshold(NamedTuple):
    """One row of the table.

    Attributes:
        name: its name in the code.
        value: its value; a share is given as a number between 0 and 1.
        meaning: what is compared with it.
        reason: why it has this value.
    """

    name: str
    value: float
    meaning: str
    reason: str


THRESHOLDS = (
    Threshold(
        "GOAL", GOAL,
        "Share of the gap between the baseline and the best of the group. A loss, or the metric that judges, this "
        "close to the best is near it. A loss of at most this share of the baseline is low.",
        "The network explains 98% of what can be explained: on MNIST 96.3% beside 98% test accuracy.",
    ),
    Threshold(
        "NOISE", NOISE,
        "Multiple of the standard deviation over seeds, or of the standard error that follows from the number of "
        "validation or test rows. Two points closer than that cannot be told apart: it widens GOAL where the noise is "
        "known.",
        "Two runs differ by more in 5% of the cases: 1.96 times the square root of 2.",
    ),
    Threshold(
        "TREND", TREND,
        "Share of the loss. A loss that falls by less over the second half of the recorded epochs stands still.",
        "A person does not see 1% in a plot of the loss.",
    ),
    Threshold(
        "SURE", SURE,
        "Standard errors of the slope of the second half. A smaller slope is noise, and the loss stands still.",
        "Noise alone has such a slope in 5% of the cases.",
    ),
    Threshold(
        "GROWN", GROWN,
        "Multiple of both the first loss and the baseline. A finite loss above it that still grows has diverged.",
        "No training recovers from a loss that is ten times as large as without training and grows.",
    ),
    Threshold(
        "ENOUGH", ENOUGH,
        "Records of the loss, and updates of a weight, below which nothing is called oscillating or a plateau.",
        "Three records that go up and down, or stand still, are no pattern; in ten, noise rarely looks like one.",
    ),
    Threshold(
        "ROUGH", ROUGH,
        "Share of the movement of the loss in the second half that is upward, from which the loss oscillates.",
        "0 is a smooth fall, 0.5 moves up as much as down; half-way, the fall is hard to see.",
    ),
    Threshold(
        "SWING", SWING,
        "Standard deviation of the loss around its trend, as a share of the loss, from which the loss oscillates.",
        "As TREND: a person does not see smaller movements.",
    ),
    Threshold(
        "SWING_OF_MINIBATCHES", SWING_OF_MINIBATCHES,
        "The same where training uses minibatches.",
        "The minibatches of an epoch differ, and with them the loss, although nothing oscillates.",
    ),
    Threshold(
        "REVERSALS", REVERSALS,
        "Share of the updates that reverse the direction of a weight, from which the weight oscillates.",
        "At more than half, turning back is the rule. Not for minibatches, whose noise turns weights too.",
    ),
    Threshold(
        "FLAT", FLAT,
        "d(log loss) / d(log weights) up to which the gradient is nearly zero.",
        "Weights that are 1% larger change the loss by 0.001%.",
    ),
    Threshold(
        "SATURATED", SATURATED,
        "Slope a (1 - a) of a sigmoid with output a below which it is saturated.",
        "It passes on less than 0.4% of the largest gradient, which is 1/4.",
    ),
    Threshold(
        "SMALL_STEP", SMALL_STEP,
        "Size of an update as a share of the norm of the weights, or of 1 if that is smaller. A loss that stands still "
        "far from the best with smaller steps is too slow, with larger ones it is stalled on a plateau.",
        "Healthy training is near 1e-3 (a rule of thumb of Karpathy's); a tenth of that is slow.",
    ),
    Threshold(
        "RISE", RISE,
        "Share by which the loss of the held-out rows ends above its lowest value, from which a network overfits. The "
        "training loss must have fallen by as much since, and not have risen again above where it was.",
        "Early stopping acts on rises of 1% to 5% (Prechelt 1998); twice that is not luck.",
    ),
    Threshold(
        "RISE_OVER_NOISE", RISE_OVER_NOISE,
        "The same rise as a multiple of the standard deviation of that loss from record to record.",
        "Noise alone does not rise by three standard deviations.",
    ),
    Threshold(
        "RISING_RECORDS", RISING_RECORDS,
        "Records after the lowest loss of the held-out rows, all above it by RISE or, for the last ones, by their "
        "median.",
        "One or two bad epochs happen in every training.",
    ),
    Threshold(
        "OVERSHOT", OVERSHOT,
        "Share by which the loss rises above both its first value and the baseline, from which the steps overshot.",
        "Smaller rises are rounding, or the noise of minibatches.",
    ),
    Threshold(
        "OVERSHOT_OF_OTHERS",
        OVERSHOT_OF_OTHERS,
        "The same for the mean loss of the first epoch, compared with the loss of the held-out rows before training; "
        "without such rows with the baseline, by the multiple GROWN.",
        "Before training, the training rows may have had a larger loss than the held-out rows, or than the baseline.",
    ),
    Threshold(
        "FORESEEABLE", FORESEEABLE,
        "Multiple of the trained epochs up to which an extrapolation is reported as a number. With a rate that is too "
        "large, a loss whose pace needs more than that has stalled.",
        "Further away, the law fitted to the curve says nothing.",
    ),
    Threshold(
        "range test: BETA", range_test.BETA,
        "Smoothing factor of the losses of a range test.",
        "The mean covers about the last 1 / (1 - 0.95) = 20 updates.",
    ),
    Threshold(
        "range test: GROWN", range_test.GROWN,
        "Multiple of its minimum above which the smoothed loss has diverged.",
        "Common tools end a range test there.",
    ),
    Threshold(
        "range test: SHARE", range_test.SHARE,
        "The suggested rate as a share of the rate at which the smoothed loss is lowest.",
        "The lower bound of the cyclical schedule of Smith 2017.",
    ),
    Threshold(
        "range test: SPAN", range_test.SPAN,
        "Decades of rates over which a slope is fitted.",
        "A narrower window would fit the noise.",
    ),
    Threshold(
        "range test: FEWEST", range_test.FEWEST,
        "Updates with a finite loss below which a range test is not judged.",
        "Fewer have no lowest point between two others.",
    ),
    Threshold(
        "range test: CERTAIN", range_test.CERTAIN,
        "Standard errors from which a fall or a rise of the smoothed loss counts.",
        "The minimum is the lowest of hundreds of means: chance alone exceeds two.",
    ),
    Threshold(
        "range test: LEAST_CHANGE", range_test.LEAST_CHANGE,
        "Share of the loss at the start; a smaller fall or rise does not count.",
        "It is rounding rather than training.",
    ),
    Threshold(
        "range test: AT_START", range_test.AT_START,
        "Decades from the first rate. A loss that rises within them without having fallen is lowest at the start.",
        "The range began at rates that are too large already.",
    ),
    Threshold(
        "range test: FLAT", range_test.FLAT,
        "Decades. A minimum that could be anywhere within them is not clear.",
        "The rates ten times smaller and larger than the suggested one are then no different from it.",
    ),
)  # fmt: skip


def threshold_rows() -> list[list[str]]:
    """Return the table with its header, for the documentation."""
    rows = [["threshold", "value", "what it means", "reason"]]
    rows += [[f"`{one.name}`", f"{one.value:.3g}", one.meaning, one.reason] for one in THRESHOLDS]
    return rows
