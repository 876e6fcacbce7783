"""The verdicts on a run, and the problem in the source texts that each corresponds to.

The source texts, the four publications that README.md lists, name three problems: slopes too big, stuck in a minimum,
slopes too small.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["converged", "too slow", "oscillating", "stalled", "diverged", "map", "range test"]

# The problem in the source texts that each verdict corresponds to. Not applicable to maps and range tests.
PROBLEMS: dict[Verdict, str] = {
    "converged": "none",
    "too slow": "slopes too small",
    "oscillating": "slopes too big",
    "stalled": "stuck in a minimum",
    "diverged": "slopes too big",
}


@dataclass(frozen=True)
class Diagnosis:
    """The verdict on a run, with its cause and evidence.

    Attributes:
        verdict: a verdict of one or two words.
        cause: for a stalled network `saturation`, `rounding`, `flat` or `line search`; for balls their outcome, for
            instance `local minimum`; empty for most other verdicts.
        evidence: a sentence with the numbers behind the verdict.
        values: the numbers by name: for a network `loss_over_baseline`; `epochs_to_low_loss`, or `epochs_needed` if the
            loss did not become low; `roughness`, `reversals` and `saturated`, which trends.py and stalled.py compute.
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

    def __str__(self) -> str:
        """The label and the evidence, for instance `stalled (flat): loss 20, 34% of the baseline 58.7; ...`."""
        return f"{self.label}: {self.evidence}"
