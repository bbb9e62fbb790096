"""Processes of a whole server under load are killed with -9, and every request that got a byte is accounted for once.

Rounds of twenty kills, each with a server of its own: kills in one life of a server come with ever longer pauses before
a restart, which is what the supervisor is for. The harness is ``tests/chaos``; the tests run one round.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2] / "tests" / "chaos"))
from chaos_check import LOST_AT_MOST_S
from chaos_kills import Kill
from chaos_phases import APPLIES, Phase, Target
from chaos_round import Report, missing, run_round

KILLS_A_ROUND = 20
QUICK = bool(os.environ.get("QUICK"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=KILLS_A_ROUND if QUICK else 200)
    parser.add_argument("--seed", type=int, default=1, help="Of the first round; those after it count on.")
    asked = parser.parse_args()
    began = time.monotonic()
    reports = []
    for first in range(0, asked.kills, KILLS_A_ROUND):
        seed = asked.seed + first // KILLS_A_ROUND
        print(f"round of seed {seed}", flush=True)
        with tempfile.TemporaryDirectory(prefix="headrace-chaos-") as folder:
            kills = min(KILLS_A_ROUND, asked.kills - first)
            reports.append(run_round(Path(folder), kills=kills, seed=seed, say=lambda line: print(line, flush=True)))
        for problem in reports[-1].problems:
            print(f"  WRONG: {problem}", flush=True)
    kills = [kill for report in reports for kill in report.kills]
    print_hits(kills)
    result = summary(reports) | {"seed": asked.seed, "seconds": round(time.monotonic() - began)}
    print(json.dumps(result, indent=2))
    Path(__file__).with_name("results.json").write_text(json.dumps(result, indent=2) + "\n")
    wrong = [problem for report in reports for problem in report.problems] + missing(kills)
    for problem in wrong:
        print(f"WRONG: {problem}", file=sys.stderr)
    print(f"{len(kills)} kills: {'FAILED' if wrong else 'every request that got a byte is accounted for, once'}")
    return 1 if wrong else 0


def print_hits(kills: Sequence[Kill]) -> None:
    """Kills that hit a request in each phase, and in parentheses the requests."""
    print(f"\n{'kills that hit requests':24}" + "".join(f"{target:>16}" for target in Target))
    for phase in Phase:
        cells = []
        for target in Target:
            hit = [kill.found[phase] for kill in kills if kill.target is target and kill.hits(phase)]
            cells.append(f"{len(hit)} ({sum(hit)})" if phase in APPLIES[target] else "")
        print(f"{phase:24}" + "".join(f"{cell:>16}" for cell in cells))
    inside = sum(kill.in_transaction for kill in kills)
    print(f"{'inside the transaction':24}{'':16}{'':16}{inside:>16}")
    print(f"{'all':24}" + "".join(f"{sum(kill.target is target for kill in kills):>16}" for target in Target) + "\n")


def summary(reports: Sequence[Report]) -> dict[str, Any]:
    attempts = [attempt for report in reports for attempt in report.attempts]
    losses = [loss for report in reports for loss in report.losses]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "kills": sum(len(report.kills) for report in reports),
        "attempts": len(attempts),
        "answered_with_a_byte": sum(attempt.answered for attempt in attempts),
        "failed": dict(Counter(attempt.failure for attempt in attempts if attempt.failure)),
        "requests_in_the_journals": sum(report.requests for report in reports),
        "settled_on_recovery": sum(report.recovered for report in reports),
        "streams_that_lost_tokens": len(losses),
        "worst_loss_tokens": max((loss.tokens for loss in losses), default=0),
        "worst_loss_s": round(max((loss.seconds for loss in losses), default=0.0), 2),
        "loss_bound_s": LOST_AT_MOST_S,
        "gateway_back_s": _spread([s for report in reports for s in report.gateway_back_s]),
        "controller_back_s": _spread([s for report in reports for s in report.controller_back_s]),
        "healed_s": _spread([report.healed_s for report in reports]),
        "problems": sum(len(report.problems) for report in reports),
    }


def _spread(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    if not ordered:
        return {}
    return {"median": round(ordered[len(ordered) // 2], 2), "max": round(ordered[-1], 2)}


if __name__ == "__main__":
    sys.exit(main())
