"""Servers that misbehave, each found out in words."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from made_run import changed, failing, run, spec, unstreamed

from headrace.bench.client.records import Outcome, Records, follow_up
from headrace.bench.results.findings import Finding, findings
from headrace.bench.workload.spec import LoadSpec

COUNT = 100
SOUND = run(np.arange(COUNT) * 0.1)
SPEC = spec(requests=COUNT)


def only(records: Records, given: LoadSpec = SPEC) -> Finding:
    (finding,) = findings(records, given)
    return finding


def named(records: Records) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings(records, SPEC)}


def test_a_sound_run_has_no_findings() -> None:
    assert findings(SOUND, SPEC) == ()


def test_nothing_sent_is_said() -> None:
    assert only(run(np.empty(0))).name == "nothing_sent"


def test_a_wrong_key_is_said_with_the_servers_words() -> None:
    refused = failing(SOUND, np.arange(COUNT), Outcome.FAILED, status=401, error="401: no such key")
    found = named(refused)
    assert set(found) == {"wrong_key", "no_answer"}
    assert found["wrong_key"].words == (
        "100 of 100 requests were refused (401 or 403): the key is missing, wrong, or not for this endpoint. "
        "The answer says: 401: no such key"
    )


@pytest.mark.parametrize(
    ("outcome", "status", "name", "said"),
    [
        (Outcome.FAILED, 404, "wrong_path", "the URL's path and the model's name"),
        (Outcome.FAILED, 400, "bad_request", "does not take"),
        (Outcome.REJECTED, 429, "rejected", "not its capacity"),
        (Outcome.UNAVAILABLE, 503, "unavailable", "503"),
        (Outcome.TIMED_OUT, 0, "timed_out", "10 without a byte of answer"),
        (Outcome.FAILED, 500, "failed", "500: out of memory"),
        (Outcome.UNFINISHED, 0, "unfinished", "cut off by the end of the run"),
    ],
)
def test_failures_are_told_apart(outcome: Outcome, status: int, name: str, said: str) -> None:
    found = only(failing(SOUND, np.arange(10), outcome, status=status, error=f"{status}: out of memory"))
    assert found.name == name and found.requests == 10
    assert said in found.words


def test_dropped_connections_are_counted_with_when_they_dropped() -> None:
    dropped = failing(SOUND, np.arange(20, 30), Outcome.FAILED, status=200, error="the connection was closed")
    dropped = failing(dropped, [90], Outcome.FAILED, status=200, error="an event is no JSON")
    words = [finding.words for finding in findings(dropped, SPEC)]
    assert words == [
        "10 requests failed (between 2.0 s and 3.0 s): the connection was closed",
        "1 request failed (at 9.1 s): an event is no JSON",
    ]


def test_many_kinds_of_failure_are_summed_up() -> None:
    records = SOUND
    for kind in range(13):
        records = failing(records, [kind], Outcome.FAILED, error=f"kind {kind}")
    found = findings(records, SPEC)
    assert len(found) == 11 and found[-1].words == "3 more requests failed in other ways."


def test_a_server_that_never_streams_is_found() -> None:
    assert only(unstreamed(np.arange(50.0), e2e_s=0.5)).name == "never_streamed"
    whole = msgspec.structs.replace(SPEC, content=msgspec.structs.replace(SPEC.content, stream=False))
    assert findings(unstreamed(np.arange(50.0), e2e_s=0.5), whole) == ()


def test_a_stream_in_one_event_is_found() -> None:
    found = named(run(np.arange(COUNT) * 0.1, output_tokens=11, tokens_per_event=11))
    assert "one_event" in found and "TPOT cannot be seen" in found["one_event"].words


def test_a_server_without_usage_is_found() -> None:
    assert only(changed(SOUND, counted=False)).name == "no_usage"


def test_usage_that_tells_fewer_tokens_than_events_is_found() -> None:
    found = named(changed(run(np.arange(COUNT) * 0.1, output_tokens=20), output_tokens=5, asked_output=-1))
    assert set(found) == {"usage_too_low"}
    assert "20 events that carry text, but 5 output tokens" in found["usage_too_low"].words


def test_an_end_token_without_text_is_no_contradiction() -> None:
    assert findings(changed(SOUND, output_tokens=10, asked_output=10), SPEC) == ()


def test_usage_that_tells_many_more_tokens_than_events_is_found() -> None:
    assert only(changed(SOUND, output_tokens=40, asked_output=40)).name == "several_tokens"


def test_ignored_and_unreached_lengths_are_found() -> None:
    over = only(changed(SOUND, asked_output=9))
    assert over.name == "max_tokens_ignored" and "11 output tokens where max_tokens was 9" in over.words
    assert only(changed(SOUND, asked_output=16)).name == "ended_early"


def test_another_number_of_input_tokens_than_was_sent_is_found() -> None:
    assert findings(changed(SOUND, input_tokens=102), SPEC) == ()
    found = only(changed(SOUND, input_tokens=np.where(np.arange(COUNT) < 40, 130, 100)))
    assert found.name == "input_differs" and found.requests == 40
    assert "130 input tokens where 100 were sent" in found.words


def test_events_that_come_in_one_read_are_found() -> None:
    assert only(run(np.arange(COUNT) * 0.1, tpot_s=1e-5)).name == "coalesced"


def test_cache_hits_on_unique_heads_are_found_and_allowed_where_reuse_was_asked_for() -> None:
    cached = changed(SOUND, cached_tokens=np.where(np.arange(COUNT) % 2, 32, 96))
    assert "64.0% of input tokens came from a prefix cache" in only(cached).words
    assert only(cached).name == "cache_hits" and "another --seed" in only(cached).words
    reused = msgspec.structs.replace(SPEC, content=msgspec.structs.replace(SPEC.content, reuse=True))
    assert findings(cached, reused) == ()


def test_a_beginning_that_all_prompts_share_is_told_from_prompts_that_were_seen_before() -> None:
    shared = only(changed(SOUND, cached_tokens=26 + np.arange(COUNT) % 3))
    assert shared.name == "cache_beginning" and shared.requests == COUNT
    assert "27.0% of input tokens came from a prefix cache, the first 26 to 28 of each prompt" in shared.words
    assert "seed" not in shared.words
    assert only(changed(SOUND, cached_tokens=99)).name == "cache_hits", "the whole prompt was there"


def test_what_later_turns_of_sessions_repeat_may_be_cached() -> None:
    numbers = np.where(np.arange(COUNT) < 50, np.arange(COUNT), follow_up(0, 1) + np.arange(COUNT))
    cached = changed(
        SOUND, number=numbers, cached_tokens=np.where(np.arange(COUNT) < 50, 0, 20 + np.arange(COUNT) % 60)
    )
    assert findings(cached, SPEC) == ()


def test_connections_that_are_not_kept_and_retries_are_found() -> None:
    assert only(changed(SOUND, new_connection=True)).name == "no_keep_alive"
    assert only(changed(SOUND, retries=np.arange(COUNT) % 10 == 0)).requests == 10


def test_what_is_odd_about_a_complete_answer_is_passed_on() -> None:
    odd = replace(changed(SOUND, error=np.where(np.arange(COUNT) < 3, 0, -1)), errors=("no [DONE] at the end",))
    assert only(odd).words == "3 complete answers: no [DONE] at the end"


def test_load_that_is_only_kept_on_is_not_reported_on() -> None:
    records = changed(failing(SOUND, [99], Outcome.UNFINISHED), measured=np.arange(COUNT) < 99)
    assert findings(records, SPEC) == ()
