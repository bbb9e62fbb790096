"""One run in figures, with whether they may be believed."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from headrace import __version__
from headrace.bench.client.records import ProcessReport, Records, Segment
from headrace.bench.results import figures, gates, percentiles, window
from headrace.bench.results.definitions import DEFINITIONS
from headrace.bench.results.figures import Figures
from headrace.bench.results.findings import Finding, findings
from headrace.bench.results.gates import Gate
from headrace.bench.results.span import Span
from headrace.bench.results.window import Window
from headrace.bench.slo import Slo
from headrace.bench.workload.spec import ClosedLoop, LoadSpec
from headrace.policy.work import Weights

SHORTEST_S = 1e-9
"""Of a load: one request alone lasts no time, and rates divide by it."""


class Notebook(msgspec.Struct, frozen=True, kw_only=True):
    """What Databricks' benchmark notebook would print for this many users in a closed loop; see
    ``DEFINITIONS["notebook"]`` for why it is another figure than tokens over time."""

    users: int
    mean_input_tokens: float
    mean_output_tokens: float
    median_latency_s: float
    tokens_per_s: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One run in figures. ``definitions`` says what each means."""

    spec: LoadSpec
    target: str
    """Where the load went, in words."""
    simulated: bool
    """The server was the simulated engine: no model's figures."""
    slo: Slo | None
    weights_known: bool
    window: Window
    whole: Figures
    steady: Figures | None
    """Of the steady window; None where there is none."""
    notebook: Notebook | None
    """Of a closed loop alone."""
    gates: tuple[Gate, ...]
    findings: tuple[Finding, ...]
    processes: tuple[ProcessReport, ...]
    null_ttft_p99_s: tuple[float | None, float | None]
    """TTFT p99 of the same schedule against a server that answers at once, before and after; None: not measured."""
    definitions: dict[str, str] = msgspec.field(default_factory=lambda: DEFINITIONS)
    server: dict[str, str] = {}
    """What it told of itself, such as its engine and version, in words."""
    client: str = ""
    """Program and version that measured."""
    segments: tuple[Segment, ...] = ()
    """Of a run that was interrupted and gone on with; empty: it has one."""

    @property
    def headline(self) -> Figures:
        """The figures to be quoted: of the steady window, or of the whole load where there is none."""
        return self.steady or self.whole

    @property
    def valid(self) -> bool:
        """No gate failed. A run that is not valid is printed as INVALID with ``reasons``, never as a bare number."""
        return not self.reasons

    @property
    def gone_on(self) -> str:
        """When the run was gone on with, and what that means; empty for one that was not interrupted."""
        if not self.segments:
            return ""
        times = ", ".join(
            f"at {datetime.fromtimestamp(each.began, UTC):%Y-%m-%d %H:%M:%S} UTC from {each.schedule_s:.1f} s of its "
            "load"
            for each in self.segments[1:]
        )
        return (
            f"interrupted and gone on with {times}. The time in between is not in the run's clock, each segment has a "
            "warm-up of its own, and what had not ended was sent again"
        )

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the run is not valid."""
        return tuple(f"{gate.name}: {gate.words}" for gate in self.gates if gate.passed is False)


def summarize(
    records: Records,
    *,
    spec: LoadSpec,
    slo: Slo | None = None,
    weights: Weights | None = None,
    target: str = "",
    simulated: bool = False,
    server: dict[str, str] | None = None,
    null_before_s: float | None = None,
    null_after_s: float | None = None,
) -> Summary:
    """Figures, gates and findings of a run, or of the part of it that ``records`` holds.

    ``weights``: of the endpoint; None where they are not known. ``null_before_s``, ``null_after_s``: TTFT p99 of the
    same schedule against a null server; None where it was not measured.
    """
    steady = window.steady(records, spec)
    loads = tuple(Span(load.start_s, max(load.end_s, load.start_s + SHORTEST_S)) for load in steady.load_spans)
    whole = figures.of_spans(records, loads, slo, weights)
    inside = None if steady.start_s is None else whole
    if steady.steady_spans not in ((), loads):
        inside = figures.of_spans(records, steady.steady_spans, slo, weights)
    return Summary(
        spec=spec,
        target=target,
        simulated=simulated,
        slo=slo,
        weights_known=weights is not None,
        window=steady,
        whole=whole,
        steady=inside,
        notebook=notebook(whole, spec),
        gates=gates.check(
            records,
            inside or whole,
            steady,
            spec=spec,
            slo=slo,
            null_before_s=null_before_s,
            null_after_s=null_after_s,
        ),
        findings=findings(records, spec),
        processes=records.processes,
        null_ttft_p99_s=(null_before_s, null_after_s),
        server=server or {},
        client=f"headrace {__version__}",
        segments=records.segments,
    )


def notebook(whole: Figures, spec: LoadSpec) -> Notebook | None:
    """None for an open loop, or without a complete answer."""
    latency = whole.latencies.e2e_sent
    if not isinstance(spec.arrivals, ClosedLoop) or latency is None:
        return None
    assert whole.input_tokens is not None and whole.output_tokens is not None  # there are answers
    median = latency.at(percentiles.LEVELS[0])
    return Notebook(
        users=spec.arrivals.users,
        mean_input_tokens=whole.input_tokens,
        mean_output_tokens=whole.output_tokens,
        median_latency_s=median,
        tokens_per_s=(whole.input_tokens + whole.output_tokens) * spec.arrivals.users / median,
    )
