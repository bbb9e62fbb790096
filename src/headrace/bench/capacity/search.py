"""The search for the largest open-loop rate whose attainment holds, as a pure state machine: results in, the next probe
or the answer out. It reads no clock and sends nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from headrace.bench.capacity import confirmation, ending, scout
from headrace.bench.capacity.answer import Answer, Limit
from headrace.bench.capacity.evidence import Told, verdict
from headrace.bench.capacity.knowledge import REACH, SEARCH_SHARE, Knowledge
from headrace.bench.capacity.posterior import Posterior
from headrace.bench.capacity.protocol import Budget, Observed, Phase, Probe
from headrace.bench.capacity.result import Result, summarise
from headrace.bench.capacity.wording import conclude
from headrace.bench.slo import Criterion

BRACKET_STEPS = (1.5, 1.5, 2.0, 3.0)
"""Factors between rates while all probes agree."""
FAIL_SHARE = 0.15, 0.08
"""Of the budget, before and after the end of the search: where no rate has failed by then it looks well above all,
since without a failure nothing that was seen bounds the capacity."""
LATENCIES: dict[Phase, float] = {"bracket": 30.0, "refine": 60.0, "confirm": 60.0}
"""Latencies of one stream that an open loop lasts at least: a queue must have had time to become what it will be, and
to change often enough that its correlation can be seen."""
LONGER = 1.5
"""And this much longer where nothing is decided."""
NEAR_LIMIT = 1.1
"""The range's limit is found when a rate that holds is within this factor below one that is refused."""
BELOW = (0.4, 0.9)
"""Of the rate to be confirmed: where one more probe looks whether attainment falls with the rate at all."""
MOST_PROBES = 300
MOST_LOOKS = 8


class Search:
    """``next`` says what to do, ``tell`` takes what came of it; ``enough`` may be asked in between, at any time.

    ``told`` and ``budgets`` are the whole state: a search made with the same arguments and given the same lists
    (``retell``) is at the same place.
    """

    def __init__(
        self,
        criteria: Sequence[Criterion],
        *,
        seed: int,
        budget_s: float,
        width: float = 0.05,
        most_rate: float = math.inf,
        most_users: int = 1024,
    ) -> None:
        """``width``: of the 95% interval, relative to the capacity. ``most_rate`` and ``most_users``: what the client
        is good for, in requests/s and streams.

        Raises ValueError for criteria, a budget or bounds that are no such thing.
        """
        if not criteria or not all(0 < criterion.attainment < 1 for criterion in criteria):
            raise ValueError("a capacity search needs criteria with an attainment between 0 and 1, such as 0.99")
        if not (budget_s > 0 and 0 < width < 1 and most_rate > 0 and most_users >= 1):
            raise ValueError("budget, highest rate and users of a capacity search must be positive, its width below 1")
        self._targets = tuple(criterion.attainment for criterion in criteria)
        self._unit = math.ceil(1 / (1 - max(self._targets)) - 1e-9)  # requests of which one may be bad
        self._seeds = np.random.default_rng(seed)
        self._known = Knowledge(self._targets, budget_s, most_rate)
        self._width, self._most_rate, self._most_users = width, most_rate, most_users
        self._planned: list[Probe] = []
        self._confirming: float | None = None
        self._looks = self._judged = 0
        self._confirmed: float | None = None

    # What a driver asks

    def next(self) -> Probe | Answer:
        """What to do now. Says the same until it is told."""
        if not self._planned:
            decided = self._decide()
            if isinstance(decided, Answer):
                return decided
            self._planned = decided
        return self._planned[0]

    def tell(self, probe: Probe, observed: Observed) -> None:
        """What came of the probe that ``next`` gave, finished or cut short."""
        self._take(probe, summarise(probe, observed))

    def retell(self, told: Iterable[Told], budgets: Sequence[Budget] = ()) -> None:
        """Take up a search that was interrupted, or whose budget has ended. ``budgets``: those that it had, by default
        this one's; this one's is what it has from here on.

        Raises ValueError when it was another search, or had more.
        """
        now_s, earlier = self._known.budget_s, list(budgets)
        if earlier:
            self.budgets[:] = [earlier.pop(0)]
        for number, (probe, result) in enumerate(told):
            while earlier and earlier[0].since <= number:
                self.extend(earlier.pop(0).seconds)
            if self.next() != probe:
                raise ValueError(
                    "these results are of a search with another SLO, seed, width or highest rate: start anew"
                )
            self._take(probe, result)
        for later in earlier:
            self.extend(later.seconds)
        self.extend(now_s)

    def extend(self, budget_s: float) -> None:
        """Go on with this budget, what is spent of it included. A rate that is confirmed stays the answer.

        Raises ValueError when it is less than before.
        """
        had_s = self._known.budget_s
        if budget_s < had_s:
            raise ValueError(
                f"the search has a budget of {had_s:.0f} s already, not {budget_s:.0f} s: name as much or more"
            )
        if budget_s > had_s:
            self.budgets.append(Budget(len(self.told), budget_s))

    def enough(self, probe: Probe, observed: Observed) -> bool:
        """Whether the probe may end now: decided (at any number of looks), hopeless, or out of time."""
        return ending.enough(probe, observed, self._known, self._targets)

    @property
    def told(self) -> list[Told]:
        return self._known.told

    @property
    def budgets(self) -> list[Budget]:
        return self._known.budgets

    @property
    def spent_s(self) -> float:
        return self._known.spent_s

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the capacity, at 95%, as far as it is known; for showing progress."""
        belief = self._known.belief()
        return None if belief is None else (belief.quantile(0.025), belief.quantile(0.975))

    # Decisions, in the order of the phases

    def _decide(self) -> list[Probe] | Answer:
        if not self.told:
            return [scout.floor(self._unit, self._seed())]
        last, result = self.told[-1]
        if last.phase == "floor" and not result.requests:
            if ending.too_slow(self._known, 0.0):
                return self._answer("budget")
            return [scout.floor(self._unit, self._seed())]
        if last.phase == "floor" and (result.invalid or scout.impossible(result, self._targets)):
            return self._answer("client" if result.invalid else "latency")
        if last.users is not None:
            users = scout.next_users(self.told, self._targets, self._most_users)
            if users is not None and self._known.left_s > 0.7 * self._known.budget_s:
                return [scout.level(users, self._unit, self._seed())]
            self._known.start = min(scout.start_rate(self.told, self._targets), self._most_rate)
        elif result.invalid:
            return self._answer("client")
        if last.phase == "confirm":
            if self._judged != len(self.told):
                self._judge()
            if self._confirmed is not None:
                return self._answer(self._kind())
        return self._search()

    def _search(self) -> list[Probe] | Answer:
        """Bracket or refine; confirm when the interval is narrow or the time for it has come."""
        if len(self.told) >= MOST_PROBES or self._looks >= MOST_LOOKS:
            return self._answer("budget")
        among = self._known.usable()
        refused = self._known.refused()
        if not among:
            rate = self._known.begin if refused is None else min(self._known.begin, refused / 1.5)
            return self._open("bracket", rate, self._unit * 10)
        verdicts = [verdict([one], self._targets, among=among) for one in among]
        rates = [one[0].rate or 0.0 for one in among]
        belief = self._known.belief()
        assert belief is not None
        held = max((rate for rate, each in zip(rates, verdicts, strict=True) if each == "PASS"), default=0.0)
        if "FAIL" not in verdicts and held >= min(self._known.highest * 0.999, (refused or math.inf) / NEAR_LIMIT):
            return self._confirm(belief)
        if "UNRESOLVED" not in verdicts and len(set(verdicts)) == 1:
            if verdicts[0] == "PASS":
                step = BRACKET_STEPS[min(len(rates) - 1, 2)]
                return self._open("bracket", self._known.below_limit(max(rates) * step, max(rates)), self._unit * 10)
            if min(rates) <= self._known.begin / REACH * 1.001:
                return self._answer("latency")
            step = BRACKET_STEPS[min(len(rates) - 1, 3)]
            return self._open("bracket", max(min(rates) / step, self._known.begin / REACH), self._unit * 10)
        low, middle, high = (belief.quantile(share) for share in (0.025, 0.5, 0.975))
        narrow = high - low <= self._width * middle
        unbounded = "FAIL" not in verdicts and refused is None and max(rates) < 0.999 * self._known.highest
        left = self._known.left_s / self._known.budget_s - (1 - SEARCH_SHARE)
        if unbounded and left > -FAIL_SHARE[1] and (narrow or left < FAIL_SHARE[0]):
            return self._open("bracket", min(max(rates) * BRACKET_STEPS[0], self._known.highest), self._unit * 10)
        if narrow or left < 0:
            return self._confirm(belief, unbounded=unbounded)
        seen = sum(result.n for _, result in among)
        rate = min(max(middle, min(rates) / BRACKET_STEPS[0]), max(rates) * BRACKET_STEPS[0], self._known.highest)
        if refused is not None and rate > refused / NEAR_LIMIT:
            rate = self._known.below_limit(rate, held or refused / BRACKET_STEPS[0])
        return self._open("refine", rate, max(seen / 4, 8 * self._unit))

    def _confirm(self, belief: Posterior, *, unbounded: bool = False) -> list[Probe] | Answer:
        among, refused = self._known.usable(), self._known.refused()
        tried = max(probe.rate or 0.0 for probe, _ in among)
        # Where nothing has failed yet, the belief reaches far beyond every rate that was tried.
        highest = tried / BRACKET_STEPS[0] if unbounded else min(self._known.highest, tried)
        most = max(30 * self._unit, sum(result.n for _, result in among))
        plan = confirmation.plan(
            belief,
            among,
            self._targets,
            look=self._looks + 1,
            seconds=0.95 * self._known.left_s,
            most_requests=most,
            before=self._confirming,
            highest=min(highest, refused / NEAR_LIMIT if refused is not None else math.inf),
        )
        missing_s = self._known.lasting_s(confirmation.LEAST_LATENCIES) - confirmation.lasted_s(among, plan.rate)
        if self._known.left_s < max(missing_s, confirmation.REPLICATES * self._unit / plan.rate):
            return self._answer("budget")
        rates = [plan.rate] * confirmation.REPLICATES
        requests = max(plan.requests, 2 * self._unit, math.ceil(missing_s * plan.rate / len(rates)))
        if 2 * requests * (len(rates) + 2) < self._known.left_s * plan.rate:
            above = min(plan.above, BRACKET_STEPS[0] * tried)
            if above < min(refused or math.inf, self._known.highest):
                rates.append(above)
            if not self._looks:
                # Does it hold below, too? Somewhere, since nothing says where a dip would be.
                rates.append(plan.rate * self._seeds.uniform(*BELOW))
        self._confirming = plan.rate
        return [
            self._open("confirm", rates[place], requests, len(rates))[0]
            for place in self._seeds.permutation(len(rates))
        ]

    def _judge(self) -> None:
        """After all replicates of a confirmation."""
        assert self._confirming is not None
        self._judged = len(self.told)
        self._looks += 1
        least_s = self._known.lasting_s(confirmation.LEAST_LATENCIES)
        found = confirmation.judge(self._known.usable(), self._confirming, self._targets, self._looks, least_s)
        if found == "PASS":
            self._confirmed = self._confirming
        elif found == "FAIL":
            self._confirming = None

    # Smaller parts

    def _open(self, phase: Phase, rate: float, requests: float, probes: int = 1) -> list[Probe]:
        longest_s = min(ending.TIME_SHARE[phase] * self._known.budget_s, self._known.left_s / probes)
        least_s = min(self._known.lasting_s(LATENCIES[phase]), longest_s)
        most = max(math.ceil(min(max(requests, LONGER * least_s * rate), longest_s * rate)), 1)
        least = min(2 * self._unit if phase == "bracket" else 4 * self._unit, most)
        return [Probe(phase, self._seed(), least, most, rate=rate, min_s=least_s)]

    def _take(self, probe: Probe, result: Result) -> None:
        """An invalid probe says nothing: it is repeated once, then the client is the limit."""
        again = bool(result.invalid) and not (self.told and self.told[-1][1].invalid)
        self.told.append((probe, result))
        if again:
            self._planned[0] = replace(probe, seed=self._seed())
        else:
            self._planned = [] if result.invalid else self._planned[1:]

    def _kind(self) -> Limit:
        assert self._confirmed is not None
        refused = self._known.refused()
        if refused is not None and refused <= self._confirmed * BRACKET_STEPS[0]:
            return "range"
        among = self._known.usable()
        failed = any(verdict([one], self._targets, among=among) == "FAIL" for one in among)
        tried = max(one[0].rate or 0.0 for one in among)
        return "bound" if not failed and tried >= 0.999 * self._known.highest else "server"

    def _seed(self) -> int:
        return int(self._seeds.integers(1 << 31))

    def _answer(self, limit: Limit) -> Answer:
        return conclude(
            self.told,
            self._targets,
            self._known.belief(),
            limit=limit,
            confirmed=self._confirmed,
            width=self._width,
            wanted_s=self._known.wanted_s() if limit == "budget" else None,
        )
