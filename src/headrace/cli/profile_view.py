"""How a profile reads in one line, alike in every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.policy.work import Weights


def profile_label(status: str, *, simulated: bool, measuring: bool = False) -> str:
    """Such as ``quick, simulated``: figures of the simulated engine must not pass for a model's."""
    words = (status, "simulated" if simulated else "", "measuring" if measuring else "")
    return ", ".join(word for word in words if word)


def work_formula(weights: Weights) -> str:
    """The work of a request in reference tokens."""
    return (
        f"{weights.w_in:.4g} new + {weights.w_out:.4g} out + {weights.w_pp:.3g} new (cached + new/2) "
        f"+ {weights.w_dd:.3g} out (in + out/2) + {weights.w_c:.3g} cached   (reference tokens; 2048/256 weighs 2304)"
    )
