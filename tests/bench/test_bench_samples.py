"""What is read out of a stream after its end."""

from __future__ import annotations

import json
from typing import Any

from headrace.bench.samples import read_answer


def events(*payloads: Any) -> list[tuple[float, bytes]]:
    """The nth event arrives at second n."""
    return [
        (float(at), payload if isinstance(payload, bytes) else json.dumps(payload).encode())
        for at, payload in enumerate(payloads)
    ]


def text(piece: str, finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"text": piece, "finish_reason": finish}]}


def delta(finish: str | None = None, **parts: Any) -> dict[str, Any]:
    return {"choices": [{"delta": parts, "finish_reason": finish}]}


USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}


def test_the_first_event_of_a_chat_carries_a_role_and_no_token() -> None:
    answer = read_answer(
        events(delta(role="assistant", content=""), delta(content="a"), delta(content="b"), delta("stop"), b"[DONE]")
    )
    assert (answer.first_s, answer.last_s, answer.finished) == (1.0, 2.0, True)


def test_a_completion_token_that_shows_no_text_still_counts() -> None:
    answer = read_answer(events(text(""), text("a"), text("", "length")))
    assert answer.token_times == (0.0, 1.0)


def test_progress_of_the_prefill_is_no_token() -> None:
    progress = {"prompt_progress": {"processed": 256, "total": 600}, **text("")}
    answer = read_answer(events(progress, text("a")))
    assert answer.first_s == 1.0
    assert answer.prefill == ((0.0, 256),)


def test_usage_of_the_server_is_the_truth() -> None:
    answer = read_answer(events(text("abc", "length"), {"choices": [], "usage": USAGE}, b"[DONE]"))
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.cached_tokens) == (9, 3, 4)


def test_an_error_in_mid_stream_is_found_in_either_form() -> None:
    nested = read_answer(events(text("a"), {"error": {"message": "out of memory"}}))
    flat = read_answer(events(text("a"), {"error_code": "BAD_GATEWAY", "message": "engine lost"}))
    assert (nested.error, flat.error) == ("out of memory", "engine lost")
    assert not nested.finished


def test_reasoning_counts_as_a_token() -> None:
    assert read_answer(events(delta(reasoning_content="hm"))).first_s == 0.0


def test_an_event_that_is_not_json_is_an_error_and_not_a_crash() -> None:
    assert read_answer(events(b"{half")).error == "an event of the stream is not JSON"
