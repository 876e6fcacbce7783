"""The verdicts on a run, and the problem in the source texts that each corresponds to.

The source texts, the four publications that README.md lists, name three problems: slopes too big, stuck in a minimum,
slopes too small.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal[
    "converged", "improving", "overfitting", "too slow", "oscillating", "stalled", "diverged", "map", "range test"
]
TOO_BIG = "slopes too big"

# The problem in the source texts that each verdict corresponds to. Not applicable to maps and range tests. The texts
# train on all rows that they have, so that they do not know overfitting.
PROBLEMS: dict[Verdict, str] = {
    "converged": "none",
    "improving": "none",
    "overfitting": "none",
    "too slow": "slopes too small",
    "oscillating": TOO_BIG,
    "stalled": "stuck in a minimum",
    "diverged": TOO_BIG,
}
# The cause of a verdict where the first steps overshot, or a smaller rate ends better.
TOO_LARGE = "rate too large"
# The cause of a verdict where the seeds of a point are further apart than it is behind the best.
SEEDS_DIFFER = "seeds differ"
# Causes that are steps too large, whatever the verdict.
LARGE_STEPS = (TOO_LARGE, "plateau")
# Each verdict in a sentence, for the report and the documentation.
MEANINGS: dict[Verdict, str] = {
    "converged": "The loss is low, or it stands still near the best of its group.",
    "improving": "The loss is near the best of its group and still falls: more epochs would help.",
    "overfitting": "The training loss falls, that of the held-out rows rises: fewer epochs, or a penalty, would help.",
    "too slow": "The loss still falls, and it ends behind the best of its group: a larger rate, or more epochs.",
    "oscillating": "The loss or a weight goes up and down, away from the best: a smaller rate.",
    "stalled": "The loss stands still far from the best, for the cause in parentheses.",
    "diverged": "The loss grew without bound: a smaller rate.",
}


@dataclass(frozen=True)
class Diagnosis:
    """The verdict on a run, with its cause and evidence.

    Attributes:
        verdict: a verdict of one or two words.
        cause: for a stalled network `saturation`, `rounding`, `flat`, `line search`, `rate too large` or `plateau`; for
            others `rate too large`, or `seeds differ` for one that cannot be told from the best; for balls their
            outcome, for instance `local minimum`; empty for most other verdicts.
        evidence: a sentence with the numbers behind the verdict.
        values: the numbers by name: for a network `loss_over_baseline`; `epochs_to_low_loss`, or `epochs_needed` if the
            loss did not become low; `overfitting_since`, an epoch; `roughness`, `reversals` and `saturated`, which
            trends.py and stalled.py compute.
    """

    verdict: Verdict
    cause: str
    evidence: str
    values: dict[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Verdict and cause, for instance `stalled (rounding)`."""
        if not self.cause:
            return self.verdict
        return f"{self.verdict} ({self.cause})"

    @property
    def problem(self) -> str:
        """The problem in the source texts that it corresponds to, or `none`."""
        if self.cause in LARGE_STEPS:
            return TOO_BIG
        # Maps and range tests have no problem, so they are not in PROBLEMS.
        return PROBLEMS.get(self.verdict, "none")

    def __str__(self) -> str:
        """The label and the evidence, for instance `stalled (flat): loss 20, 34% of the baseline 58.7; ...`."""
        return f"{self.label}: {self.evidence}"
