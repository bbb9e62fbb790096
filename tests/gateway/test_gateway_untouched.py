"""What the engine gets is what the client sent, but for the members that are documented: any other one goes through as
it was written, whatever it holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gateway_rig import PROGRESS, RAW, chat_body
from gateway_wires import wires
from hypothesis import given
from hypothesis import strategies as st

from headrace.gateway.prompt import Limits
from headrace.gateway.request import Shape, parse
from headrace.gateway.snapshot import Traits
from headrace.gateway.upstream_body import upstream_body

OURS = {"client_request_id", "usage_context"}
SET = {"model", "max_tokens", "stream_options"}
SET_WHERE_STREAMED_ALWAYS = SET | {"stream", "return_progress", "timings_per_token"}
LIMITS = Limits(input_estimate=10, max_output=5, max_tokens=5)

blanks = st.sampled_from(["", "", " ", "\n", "\t \r\n"])
NUMBERS = "0 -0 1e0 1E+2 0.10 -1.5e-7 123456789012345678901234567890 0.1234567890123456789012345 1e308"
numbers = st.sampled_from(NUMBERS.split())
strings = st.builds(lambda text, ascii: json.dumps(text, ensure_ascii=ascii), st.text(max_size=6), st.booleans())
escaped = st.sampled_from([r'"\u0041"', r'"\/"', r'"\ud83d\ude00"', r'"\u0000"', '"\U0001f600"'])
scalars = numbers | strings | escaped | st.sampled_from(["true", "false", "null"])


def listed(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda found, blank: f"[{blank}{f',{blank}'.join(found)}]", st.lists(values, max_size=3), blanks)


def mapped(values: st.SearchStrategy[str], names: st.SearchStrategy[str] = strings) -> st.SearchStrategy[str]:
    members = st.lists(st.tuples(names, values), max_size=3)  # names may come twice
    return st.builds(
        lambda found, blank: "{" + f"{blank},".join(f"{name}{blank}:{value}" for name, value in found) + blank + "}",
        members,
        blanks,
    )


values = st.recursive(scalars, lambda inner: listed(inner) | mapped(inner), max_leaves=6)
NAMES = ["tools", "tool_choice", "response_format", "logprobs", "seed", "stop", "x", "Max_Tokens", "model "]
untouched = st.tuples(st.sampled_from(NAMES).map(json.dumps) | st.text(max_size=4).map(json.dumps), values)
known = st.sampled_from(
    [
        ('"model"', '"smollm2"'),
        ('"model"', '"other"'),
        (r'"mod\u0065l"', '"other"'),
        ('"model"', "null"),
        ('"max_tokens"', "5"),
        ('"max_tokens"', "null"),
        ('"max_completion_tokens"', "5"),
        ('"stream"', "true"),
        ('"stream"', "false"),
        ('"stream"', "null"),
        ('"stream_options"', '{"include_usage":true, "x": 1e0}'),
        ('"stream_options"', "{}"),
        ('"stream_options"', "null"),
        ('"return_progress"', "false"),
        ('"n"', "1"),
        ('"user"', '"u"'),
        ('"service_tier"', '"default"'),
        ('"client_request_id"', '"c"'),
        ('"usage_context"', '{"a":"b"}'),
        ('"usage_context"', "null"),
    ]
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    members = draw(st.lists(untouched | known, max_size=8))
    members.insert(draw(st.integers(0, len(members))), ('"messages"', '[{"role":"user", "content":"\\u0041 é"}]'))
    blank = draw(blanks)
    text = f"{blank},{blank}".join(f"{name}{blank}:{blank}{value}" for name, value in members)
    return f"{blank}{{{text}}}{blank}".encode()


Pairs = list[tuple[str, Any]]


def taken_apart(body: bytes) -> Pairs:
    """The members of the top level in order; numbers as they are written, objects as pairs."""
    found: Pairs = json.loads(
        body, parse_int=lambda text: f"number {text}", parse_float=lambda text: f"number {text}", object_pairs_hook=list
    )
    return found


@pytest.mark.parametrize(
    ("traits", "may_set"), [(RAW, SET), (PROGRESS, SET_WHERE_STREAMED_ALWAYS)], ids=["raw", "progress"]
)
@given(raw=bodies())
def test_every_member_but_those_of_the_gateway_goes_through_as_it_was_written(
    raw: bytes, traits: Traits, may_set: set[str]
) -> None:
    body = parse(raw)
    sent = upstream_body(raw, body, Shape.CHAT, LIMITS, traits, "smollm2")
    before, after = dict(taken_apart(raw)), dict(taken_apart(sent))
    assert after.keys() & OURS == set()
    assert after.keys() - before.keys() <= may_set
    changed = {name for name in after if name in before and after[name] != before[name]}
    assert changed <= may_set
    assert before.keys() - after.keys() <= OURS
    assert (after["model"], after["max_tokens"]) == ("smollm2", "number 5")
    if after.get("stream") is True:
        assert ("include_usage", True) in after["stream_options"]


@given(raw=bodies())
def test_where_nothing_has_to_be_changed_the_bytes_are_the_clients_own(raw: bytes) -> None:
    body = parse(raw)
    sent = upstream_body(raw, body, Shape.CHAT, LIMITS, RAW, "smollm2")
    last = dict(taken_apart(raw))
    if last.get("model") != "smollm2" and "model" in last:
        return
    if OURS & last.keys() or last.get("max_tokens", "number 5") != "number 5":
        return
    if last.get("stream") is True and "stream_options" in last:
        return
    assert sent.startswith(raw[: raw.rindex(b"}")])


@pytest.mark.parametrize("traits", [RAW, Traits(stream_upstream=True)], ids=["raw", "progress"])
async def test_what_engines_know_reaches_them(traits: Traits, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    members: dict[str, Any] = {
        "tools": [{"type": "function", "function": {"name": "weather", "strict": True, "parameters": schema}}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        "logprobs": True,
        "top_logprobs": 3,
        "logit_bias": {"50256": -100},
        "seed": 2**63,
        "temperature": 1e-9,
        "stop": ["\n\n", "é"],
        "reasoning_effort": "low",
        "cache_prompt": False,
        "metadata": {"model": "inner", "max_tokens": "inner"},
    }
    with wires(tmp_path, traits) as gateway:
        sent = json.loads(gateway.ask("/v1/chat/completions", chat_body(max_tokens=9, **members)))
        assert {name: sent[name] for name in members} == members


@pytest.mark.parametrize("name", ["model", "max_tokens", "stream", "client_request_id"])
@pytest.mark.parametrize("write", [lambda name: name, lambda name: f"\\u{ord(name[0]):04x}{name[1:]}"])
async def test_a_name_counts_however_it_is_written(name: str, write: Callable[[str], str], tmp_path: Path) -> None:
    value = {"model": '"smollm2"', "max_tokens": "7", "stream": "true", "client_request_id": '"c"'}[name]
    text = f'{{"messages":[{{"role":"user","content":"a"}}],"{write(name)}":{value}}}'
    with wires(tmp_path) as gateway:
        sent = json.loads(gateway.ask("/serving-endpoints/smollm2/invocations", text.encode()))
        expected = {"model": "smollm2", "max_tokens": 7 if name == "max_tokens" else 128}
        assert {member: sent[member] for member in expected} == expected
        assert ("client_request_id" in sent, sent.get("stream", False)) == (False, name == "stream")
