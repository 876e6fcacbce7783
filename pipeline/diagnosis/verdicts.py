"""The verdicts on how training ended, and which of the texts' three problems each is.

The texts name three problems: slopes too big, stuck in a minimum, slopes too small.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["converged", "too slow", "oscillating", "stalled", "diverged", "map", "range test"]

PROBLEMS: dict[Verdict, str] = {
    "converged": "none",
    "too slow": "slopes too small",
    "oscillating": "slopes too big",
    "stalled": "stuck in a minimum",
    "diverged": "slopes too big",
}
"""Which of the texts' three problems a verdict is. A map or a range test has none as a whole."""


@dataclass(frozen=True)
class Diagnosis:
    """How a run ended, and why.

    Attributes:
        verdict: in one word or two.
        cause: what stalled it: `saturation`, `rounding`, `flat`, `line search`; empty for the other verdicts.
        evidence: a sentence of numbers.
        values: the numbers, by name: `loss_over_baseline`; `epochs_to_low_loss`, or `epochs_needed` where it was not
            reached; `roughness`, `reversals` and `saturated`, shares as the functions of these names give them.
    """

    verdict: Verdict
    cause: str
    evidence: str
    values: dict[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Verdict and cause, for instance `stalled (rounding)`."""
        return f"{self.verdict} ({self.cause})" if self.cause else self.verdict

    def __str__(self) -> str:
        """The label and the evidence, for instance `stalled (flat): loss 20, 34% of the baseline 58.7; ...`."""
        return f"{self.label}: {self.evidence}"
