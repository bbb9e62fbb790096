"""How the answer of a capacity search reads."""

from __future__ import annotations

import msgspec
import pytest

from headrace.bench import slo
from headrace.bench.capacity.answer import Answer, Point
from headrace.bench.target import Target
from headrace.cli.capacity_view import print_answer

POINT = Point(
    phase="bracket",
    rate=2.5,
    users=None,
    attainment=0.97,
    interval=(0.9, 0.99),
    n=100,
    design_effect=1.5,
    drift=0.0,
    verdict="PASS",
)
ANSWER = Answer(
    verdict="UNRESOLVED",
    limit="client",
    capacity=None,
    interval=None,
    precise=False,
    confirmed=None,
    cliff=False,
    reason="the client is the limit",
    findings=(),
    curve=(POINT,),
    requests=100,
    seconds=60.0,
    input_tokens=8.0,
    output_tokens=4.0,
    work=None,
)


def shown(answer: Answer, capsys: pytest.CaptureFixture[str]) -> str:
    print_answer(answer, (), slo.parse("ttft_p90=1s"), Target("openai", "http://h", "m", None))
    return " ".join(capsys.readouterr().out.split())


def test_a_probe_that_was_invalid_is_told_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    late = msgspec.structs.replace(POINT, invalid=("schedule lag: requests were sent 80 ms late", "gaps: in bunches"))
    said = shown(msgspec.structs.replace(ANSWER, curve=(POINT, late)), capsys)
    assert "INVALID, bracket at 2.5/s: schedule lag: requests were sent 80 ms late; gaps: in bunches" in said
    assert "INVALID" not in shown(ANSWER, capsys)


def test_what_is_assumed_of_correlation_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert "assumed: 1.5, until bad requests show it" in shown(ANSWER, capsys)


def test_without_any_probe_there_is_nothing_assumed(capsys: pytest.CaptureFixture[str]) -> None:
    assert "assumed" not in shown(msgspec.structs.replace(ANSWER, curve=()), capsys)
