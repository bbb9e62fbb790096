"""Datasets: every format recognised by what is in it, and what is wrong in it named by its line."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.bench.errors import BenchError
from headrace.bench.workload.datasets import rows, sharegpt, tables
from headrace.bench.workload.datasets.recognise import recognise
from headrace.bench.workload.source import Workload, open_workload, too_long
from headrace.bench.workload.spec import Amount, Content, Dataset, LoadSpec, OpenLoop, Poisson, Replay

AZURE_2023 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:15:46.6805900,374,44\r\n"
    "2023-11-16 18:15:50.9951690,396,109\r\n"
)
AZURE_2024 = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n"
    "2024-05-10 00:00:00.009930+00:00,2162,5\n"
    "2024-05-10 00:00:01.510000+00:00,2399,6\n"
)
BURST_GPT = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n"
    "45,ChatGPT,1087,230,1317,Conversation log\n"
    "118,GPT-4,417,0,417,API log\n"
    "120.5,GPT-4,30,3,33,API log\n"
)
LENGTHS = "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n3772,54,3826,69.9\n2015,156.0,2171,12.9\n"
MOONCAKE: list[dict[str, Any]] = [
    {"timestamp": 0, "input_length": 1300, "output_length": 5, "hash_ids": [0, 1, 2]},
    {"timestamp": 1500, "input_length": 1100, "output_length": 6, "hash_ids": [0, 1, 3]},
    {"timestamp": 3000, "input_length": 512, "output_length": 7, "hash_ids": [4]},
]
CHAT: list[dict[str, Any]] = [
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hé?"}], "max_tokens": 9},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Look"}]}], "tools": [{"type": "function"}]},
    {
        "custom_id": "a",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "x",
            "messages": [{"role": "user", "content": "Hi"}],
            "max_completion_tokens": 3,
            "stream": False,
        },
    },
    {"prompt": "Once", "temperature": 0.5},
    {"prompt": [5, 6, 7]},
]
SHARE_GPT: list[dict[str, Any]] = [
    {"id": "1", "conversations": [{"from": "gpt", "value": "Welcome"}, {"from": "human", "value": "One"},
                                  {"from": "human", "value": "Two"}, {"from": "gpt", "value": "x" * 400},
                                  {"from": "human", "value": "Three"}]},
    {"id": "2", "conversations": [{"from": "human", "value": "Nobody answers"}]},
    {"id": "3", "conversations": []},
    {"id": "4", "conversations": [{"from": "system", "value": "Rhyme."}, {"from": "user", "value": "Four [,]"},
                                  {"from": "assistant", "value": "é" * 100}]},
]  # fmt: skip

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def make(content: str | list[Any], name: str = "dataset") -> Path:
        text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return make


def load(
    path: Path,
    *,
    seed: int = 0,
    output_tokens: int | None = None,
    shuffle: bool = False,
    arrivals: OpenLoop = Poisson(1.0),  # noqa: B008  it is a value
    **content: Any,
) -> Workload:
    source = Dataset(path=str(path), output_tokens=output_tokens, shuffle=shuffle)
    return open_workload(
        LoadSpec(
            model="m",
            source=source,
            content=Content(**content),
            arrivals=arrivals,
            amount=Amount(requests=1),
            seed=seed,
        )
    )


def body(workload: Workload, number: int) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(workload.request(number).body)
    return read


def lengths(workload: Workload) -> list[list[float]]:
    listed: list[list[float]] = workload.lengths.tolist()
    return listed


@pytest.mark.parametrize(
    ("content", "format"),
    [
        (AZURE_2023, "azure"),
        (AZURE_2024, "azure"),
        (BURST_GPT, "burstgpt"),
        (LENGTHS, "lengths"),
        ("\ufeffPrompt,Completion\n12,3\n", "lengths"),
        (MOONCAKE, "mooncake"),
        (CHAT, "chat"),
        (CHAT[2:], "chat"),
        (json.dumps(SHARE_GPT), "sharegpt"),
        (json.dumps(SHARE_GPT, indent=1), "sharegpt"),
        (SHARE_GPT, "sharegpt"),
        ("What is this?\nAnd that, and these?\n", "prompts"),
        ("prompt\nWhat is this?\n", "prompts"),
        ("prompt,completion\nWhat is this?,A test\n", "prompts"),
    ],
)
def test_a_format_is_recognised_by_content(make: Make, content: Any, format: str) -> None:
    assert recognise(str(make(content))) == format


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_packed_files_are_read_whatever_they_are_called(make: Make, pack: Callable[[bytes], bytes]) -> None:
    path = make(LENGTHS)
    path.write_bytes(pack(path.read_bytes()))
    assert lengths(load(path)) == [[3772, 54], [2015, 156]]


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress])
def test_a_packed_file_that_is_cut_off_is_said_to_be(make: Make, pack: Callable[[bytes], bytes]) -> None:
    path = make(LENGTHS * 500)
    path.write_bytes(pack(path.read_bytes())[:-40])
    with pytest.raises(BenchError, match=r"dataset cannot be unpacked .* cut off or damaged"):
        load(path)


def test_a_file_that_is_not_there_or_no_text_or_empty_is_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"cannot read .*absent: No such file"):
        load(tmp_path / "absent")
    with pytest.raises(BenchError, match="empty; expected a dataset"):
        load(make("\n\n"))
    path = make("")
    path.write_bytes(b"\x93\x00\xff\xfe" * 10)
    with pytest.raises(BenchError, match="not UTF-8 text"):
        load(path)


# Tables of lengths


@pytest.mark.parametrize(
    "header",
    [
        "input,output",
        "Prompt Tokens,Completion Tokens",
        "isl,osl",
        "ContextTokens,GeneratedTokens",
        "input_len,output_len",
    ],
)
def test_columns_of_lengths_are_found_under_their_usual_names(make: Make, header: str) -> None:
    assert lengths(load(make(f"{header}\n10,2\n20,4\n"))) == [[10, 2], [20, 4]]


def test_prompts_are_made_to_the_lengths_of_a_table(make: Make) -> None:
    workload = load(make("input,output\n10,2\n20,4\n"))
    assert [len(body(workload, number)["prompt"]) for number in range(3)] == [10, 20, 10]
    assert [workload.request(number)[2:] for number in range(3)] == [(10, 2), (20, 4), (10, 2)]
    assert workload.size == 2
    assert workload.trace_s is None


def test_a_table_without_outputs_needs_to_be_told_them(make: Make) -> None:
    path = make("input\n10\n20\n")
    assert lengths(load(path, output_tokens=7)) == [[10, 7], [20, 7]]
    with pytest.raises(BenchError, match="line 1: the columns are input; expected lengths"):
        load(path)


@pytest.mark.parametrize(("content", "gap_s"), [(AZURE_2023, 4.314579), (AZURE_2024, 1.50007)])
def test_azures_two_ways_to_write_a_time_are_read(make: Make, content: str, gap_s: float) -> None:
    workload = load(make(content))
    assert workload.trace_s is not None
    assert workload.trace_s == pytest.approx([0.0, gap_s], abs=1e-6)


def test_requests_of_burst_gpt_that_failed_are_left_out_and_counted(make: Make) -> None:
    workload = load(make(BURST_GPT))
    assert lengths(workload) == [[472, 18], [1087, 230], [30, 3]]
    assert workload.trace_s is not None
    assert workload.trace_s.tolist() == [0.0, 40.0, 115.5]
    assert workload.findings == (
        "1 of 4 rows are left out: they have no input or no output tokens (requests that failed)",
    )


def test_a_trace_out_of_order_is_sorted_and_said_to_be(make: Make) -> None:
    workload = load(make("timestamp,input,output\n9,1,1\n2,2,2\n4,3,3\n"))
    assert lengths(workload) == [[2, 2], [3, 3], [1, 1]]
    assert "1 rows are earlier than the row before" in workload.findings[0]


def test_requests_of_a_trace_that_is_replayed_stay_with_their_times_even_if_shuffled(make: Make) -> None:
    workload = load(make(AZURE_2023), shuffle=True, arrivals=Replay())
    assert [workload.request(number).input_tokens for number in range(4)] == [374, 396, 374, 396]
    assert "in order" in workload.describe()


def test_requests_of_a_trace_are_shuffled_where_its_times_are_not_replayed(make: Make) -> None:
    rows = "".join(f"{number},{number + 1},1\n" for number in range(50))
    workload = load(make(f"timestamp,input,output\n{rows}"), shuffle=True)
    found = [workload.request(number).input_tokens for number in range(50)]
    assert sorted(found, key=lambda tokens: tokens or 0) == list(range(1, 51)) != found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("input,output\n10,2\n10,many\n", "line 3: output is 'many'; expected a whole number of tokens"),
        ("input,output\n10.5,2\n", "line 2: input is '10.5'"),
        ("input,output\n10,2\n10\n", "line 3: 1 columns; expected 2: is the file cut off"),
        ("timestamp,input,output\n1,2,3\nsoon,2,3\n", "line 3: the time is 'soon'"),
        ("timestamp,input,output\nsoon,2,3\n", "line 2: the time is 'soon'"),
        ("input,output\n0,0\n", "holds no requests"),
    ],
)
def test_a_bad_row_of_a_table_is_named(make: Make, content: str, words: str) -> None:
    with pytest.raises(BenchError, match=words):
        load(make(content))


def test_a_long_table_is_read_as_far_as_memory_is_given_and_that_is_said(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MOST_LENGTHS", 3)
    workload = load(make("input,output\n" + "5,6\n" * 10))
    assert workload.size == 3
    assert "only the first 3 requests" in workload.findings[0]


def test_lengths_beyond_the_context_are_a_finding(make: Make) -> None:
    workload = load(make("input,output\n100,28\n100,29\n50,5\n10,1\n"))
    assert too_long(workload, 129) is None
    assert too_long(workload, 128) == (
        "1 of 4 requests (25.0%) are longer than the 128 tokens that the server has room for (the longest 129); it "
        "will refuse them or cut them off"
    )


# Mooncake


def test_blocks_of_mooncake_are_the_same_tokens_wherever_they_are_and_differ_else(make: Make) -> None:
    workload = load(make(MOONCAKE), reuse=True)
    first, second, third = (body(workload, number)["prompt"] for number in range(3))
    assert [len(first), len(second), len(third)] == [1300, 1100, 512]
    assert first[:1024] == second[:1024]
    assert first[1024] != second[1024] or first[1025] != second[1025]
    assert third[:16] != first[:16]
    assert workload.trace_s is not None
    assert workload.trace_s.tolist() == [0.0, 1.5, 3.0]


def test_a_trace_that_comes_round_again_finds_nothing_of_its_first_round(make: Make) -> None:
    workload = load(make(MOONCAKE), reuse=True)
    again = body(workload, 3)["prompt"]
    assert again[:16] != body(workload, 0)["prompt"][:16]
    assert again[:1024] == body(workload, 4)["prompt"][:1024]


def test_another_salt_makes_new_blocks(make: Make) -> None:
    first, second = (body(load(make(MOONCAKE), reuse=True, salt=salt), 0)["prompt"] for salt in (1, 2))
    assert first[:16] != second[:16]


def test_a_prompt_beyond_its_blocks_goes_on_by_itself(make: Make) -> None:
    rows = [{"timestamp": 0, "input_length": 700, "output_length": 5, "hash_ids": [8]}] * 2
    workload = load(make(rows), reuse=True)
    first, second = (body(workload, number)["prompt"] for number in range(2))
    assert len(first) == len(second) == 700
    assert first[:512] == second[:512]
    assert first[512] != second[512]


def test_prose_shares_the_blocks_as_well(make: Make) -> None:
    workload = load(make(MOONCAKE), reuse=True, prompt="text")
    first, second = (body(workload, number)["prompt"].split(" ") for number in range(2))
    assert first[:1025] == second[:1025]
    assert len(first) == 1301


def test_without_reuse_nothing_is_shared_and_that_is_said(make: Make) -> None:
    workload = load(make(MOONCAKE))
    assert body(workload, 0)["prompt"][0] != body(workload, 1)["prompt"][0]
    assert "ask for reuse" in workload.findings[0]


def test_a_bad_row_of_mooncake_is_named(make: Make) -> None:
    with pytest.raises(BenchError, match=r"line 2: .*input_length"):
        load(make([MOONCAKE[0], {"timestamp": 4, "input_length": "x", "output_length": 3}]))
    with pytest.raises(BenchError, match="line 4: "):
        load(make("".join(json.dumps(row) + "\n" for row in MOONCAKE) + '{"timestamp": 5, "inp'))


# Texts


def test_chats_and_prompts_go_where_they_belong_with_all_their_fields(make: Make) -> None:
    workload = load(make(CHAT), reuse=True)
    paths = [workload.request(number).path for number in range(5)]
    assert paths == ["/v1/chat/completions"] * 3 + ["/v1/completions"] * 2
    ours = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
    assert body(workload, 0) == {**CHAT[0], **ours, "ignore_eos": True}
    assert body(workload, 1) == {**CHAT[1], **ours}
    assert body(workload, 2) == {**CHAT[2]["body"], **ours, "ignore_eos": True}
    assert body(workload, 3) == {**CHAT[3], **ours}
    assert body(workload, 4) == {**CHAT[4], **ours}
    np.testing.assert_array_equal(workload.lengths[:, 1], [9, np.nan, 3, np.nan, np.nan])
    assert workload.request(4).input_tokens == 3


def test_heads_go_before_the_first_text_and_leave_the_rest_alone(make: Make) -> None:
    workload = load(make(CHAT))
    first = body(workload, 0)["messages"]
    assert first[0]["content"].endswith("\n\nBe brief.")
    assert first[1] == {"role": "user", "content": "Hé?"}
    parts = body(workload, 1)["messages"][0]["content"]
    assert parts[1] == {"type": "text", "text": "Look"}
    assert body(workload, 3)["prompt"].endswith("\n\nOnce")
    ids = body(workload, 4)["prompt"]
    assert ids[-3:] == [5, 6, 7]
    assert len(ids) == workload.request(4).input_tokens


def test_a_chat_that_begins_with_no_text_is_left_alone_and_said_to_be(make: Make) -> None:
    messages = [{"role": "assistant", "content": None, "tool_calls": []}, {"role": "user", "content": "Go on"}]
    workload = load(make([{"messages": messages}, {"prompt": "x"}]))
    assert body(workload, 0)["messages"] == messages
    assert "1 requests begin with no text" in workload.findings[0]


def test_the_same_row_has_another_head_each_time_round(make: Make) -> None:
    workload = load(make(CHAT[:1]))
    heads = {body(workload, number)["messages"][0]["content"].split(" ")[0] for number in range(200)}
    assert len(heads) == 200
    assert body(workload, 3) == body(load(make(CHAT[:1])), 3)


def test_an_output_length_is_given_to_those_that_have_none(make: Make) -> None:
    workload = load(make(CHAT), output_tokens=50)
    assert [workload.request(number).output_tokens for number in range(5)] == [9, 50, 3, 50, 50]
    assert body(workload, 1)["max_tokens"] == 50
    assert "max_tokens" not in body(workload, 2)
    assert "ignore_eos" not in body(load(make(CHAT), output_tokens=50, force_length=False), 1)


def test_plain_prompts_are_one_a_line_and_are_sent_as_chats_where_asked(make: Make) -> None:
    path = make("First, one\n\nSecond\n")
    assert body(load(path, reuse=True), 1)["prompt"] == "Second"
    chat = load(path, reuse=True, api="chat", output_tokens=4)
    assert body(chat, 0)["messages"] == [{"role": "user", "content": "First, one"}]
    assert chat.request(0).path == "/v1/chat/completions"
    assert chat.size == 2


def test_a_column_of_prompts_is_read_from_csv(make: Make) -> None:
    workload = load(make('id,prompt\n1,"Two\nlines, one prompt"\n2,\n3,Another\n'), reuse=True)
    assert [body(workload, number)["prompt"] for number in range(2)] == ["Two\nlines, one prompt", "Another"]
    assert "1 of 3 rows are left out" in workload.findings[0]
    with pytest.raises(BenchError, match="expected CSV: is the file cut off"):
        load(make('prompt\n"Never closed\n'))


def test_questions_of_public_sets_are_prompts(make: Make) -> None:
    workload = load(make([{"question": "1+1?", "answer": "2"}, {"turns": ["First", "Second"]}]), reuse=True)
    assert [body(workload, number)["prompt"] for number in range(2)] == ["1+1?", "First"]


def test_shuffled_texts_come_once_a_round(make: Make) -> None:
    workload = load(make("\n".join(f"prompt {number}" for number in range(50))), reuse=True, shuffle=True)
    order = [body(workload, number)["prompt"] for number in range(100)]
    assert sorted(order[:50]) == sorted(order[50:]) == sorted(f"prompt {number}" for number in range(50))
    assert order[:50] != order[50:]


def test_half_a_surrogate_pair_is_sent_as_json_says_it(make: Make) -> None:
    workload = load(make('{"prompt": "broken \\ud83d"}\n'), reuse=True)
    assert workload.request(0).body.isascii()
    assert body(workload, 0)["prompt"] == "broken \ud83d"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"prompt": "a", "messages": []}', "expected either"),
        ('{"input": "embed me"}', "expected either"),
        ('{"prompt": ["a", "b"]}', '"prompt" is neither a text nor a list of token ids'),
        ('{"messages": "hello"}', '"messages" is no list of objects'),
        ('{"messages": [{"content": "hello"}]}', 'a message has no "role"'),
        ('{"body": 3}', '"body" is no object'),
        ("[1]", "expected a JSON object"),
        ('{"prompt": "cut', "not JSON"),
    ],
)
def test_a_bad_line_of_chats_is_named(make: Make, row: str, words: str) -> None:
    with pytest.raises(BenchError, match=f"line 2: {words}"):
        load(make('{"prompt": "good"}\n' + row + "\n"))


def test_empty_prompts_are_left_out_and_a_file_of_nothing_else_is_refused(make: Make) -> None:
    workload = load(make([{"prompt": "  "}, {"messages": []}, {"prompt": "x"}]))
    assert workload.size == 1
    assert "2 of 3 rows are left out" in workload.findings[0]
    with pytest.raises(BenchError, match=r"holds no request that can be sent \(1 rows\)"):
        load(make([{"prompt": ""}]))


def test_many_texts_are_read_as_far_as_memory_is_given(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.bench.workload.given.MOST_TEXTS", 4)
    workload = load(make("a line\n" * 10))
    assert workload.size == 4
    assert "only the first 4 requests" in workload.findings[0]
    assert rows.MOST_TEXTS == 20_000


# ShareGPT


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_the_first_question_of_a_conversation_is_asked_for_as_long_an_answer(
    make: Make, monkeypatch: pytest.MonkeyPatch, indent: int | None, piece: int
) -> None:
    monkeypatch.setattr(sharegpt, "PIECE", piece)
    workload = load(make(json.dumps(SHARE_GPT, indent=indent)), reuse=True)
    assert workload.size == 2
    assert body(workload, 0)["messages"] == [{"role": "user", "content": "One\nTwo"}]
    assert body(workload, 1)["messages"] == [
        {"role": "system", "content": "Rhyme."},
        {"role": "user", "content": "Four [,]"},
    ]
    assert [workload.request(number).output_tokens for number in range(2)] == [100, 50]
    assert "by 4.00 bytes a token" in workload.describe()
    assert "2 of 4 rows are left out" in workload.findings[0]


def test_conversations_may_also_come_one_a_line(make: Make) -> None:
    assert load(make(SHARE_GPT)).size == 2


@pytest.mark.parametrize("cut", [1, 30, 200, 500])
def test_a_truncated_file_is_said_to_be(make: Make, cut: int) -> None:
    text = json.dumps(SHARE_GPT)
    with pytest.raises(BenchError, match=r"cut off or damaged after \d whole conversations"):
        load(make(text[:-cut]))


def test_a_damaged_conversation_does_not_take_the_whole_file_into_memory(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharegpt, "LARGEST", 1000)
    monkeypatch.setattr(sharegpt, "PIECE", 100)
    text = json.dumps(SHARE_GPT[:1])[:-1] + ', {"conversations": [oops ' + "x" * 100_000
    with pytest.raises(BenchError, match="damaged after 1 whole conversations"):
        load(make(text))


@pytest.mark.parametrize("item", ["3", '{"turns": []}', '{"conversations": [{"from": "human"}]}'])
def test_what_is_no_conversation_is_named(make: Make, item: str) -> None:
    path = make(f"[{json.dumps(SHARE_GPT[0])}, {item}]")
    with pytest.raises(BenchError, match="conversation 2: "):
        load(path)
