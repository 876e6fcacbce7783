"""The verdicts on how training ended, and the problem that each stands for.

The texts that the studies follow name three problems: slopes too big, stuck in a minimum, slopes too small.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["converged", "too slow", "oscillating", "stalled", "diverged", "map", "range test"]

# The problem of the texts that each verdict stands for. A map or a range test has none as a whole.
PROBLEMS: dict[Verdict, str] = {
    "converged": "none",
    "too slow": "slopes too small",
    "oscillating": "slopes too big",
    "stalled": "stuck in a minimum",
    "diverged": "slopes too big",
}


@dataclass(frozen=True)
class Diagnosis:
    """How a run ended, and why.

    Attributes:
        verdict: one or two words.
        cause: what stalled a network (`saturation`, `rounding`, `flat` or `line search`), or how balls ended (for
            instance `local minimum`); empty for most other verdicts.
        evidence: a sentence with the numbers.
        values: the numbers by name: for a network `loss_over_baseline`; `epochs_to_low_loss`, or `epochs_needed` if the
            loss was not low; `roughness`, `reversals` and `saturated`, as the functions of these names return them.
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
