"""Sessions: what the user says comes from the dataset, what the model says from the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.bench.errors import BenchError
from headrace.bench.workload.sessions import SessionWorkload
from headrace.bench.workload.source import open_workload
from headrace.bench.workload.spec import MOST_TURNS, Amount, Content, Dataset, LoadSpec, Poisson, Sessions, Synthetic

SYSTEM = {"role": "system", "content": "be short"}


def user(words: str) -> dict[str, str]:
    return {"role": "user", "content": words}


def model(words: str) -> dict[str, str]:
    return {"role": "assistant", "content": words}


TALK = [SYSTEM, user("one"), model("old"), user("two"), model("older"), user("three")]


def sessions(folder: Path, *rows: dict[str, Any], reuse: bool = True, **changes: Any) -> SessionWorkload:
    file = folder / "chats.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given: dict[str, Any] = {
        "model": "m",
        "source": Dataset(path=str(file)),
        "content": Content(reuse=reuse),
        "arrivals": Poisson(1.0),
        "amount": Amount(requests=1),
        "sessions": Sessions(think_s=2.0),
    }
    workload = open_workload(LoadSpec(**(given | changes)))
    assert isinstance(workload, SessionWorkload)
    return workload


def messages(request: Any) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(request.body)["messages"]
    return found


def test_each_turn_has_all_before_it_with_the_answers_that_the_model_gave(tmp_path: Path) -> None:
    talk = sessions(tmp_path, {"messages": TALK, "max_tokens": 7})
    assert talk.turns(0) == 3
    assert messages(talk.request(0)) == [SYSTEM, user("one")]
    assert messages(talk.follow(0, ["A"])) == [SYSTEM, user("one"), model("A"), user("two")]
    last = talk.follow(0, ["A", "B"])
    assert messages(last) == [SYSTEM, user("one"), model("A"), user("two"), model("B"), user("three")]
    assert last.output_tokens == 7 and last.path == "/v1/chat/completions"
    assert messages(talk.request(0)) == [SYSTEM, user("one")], "what was sent changes no later session"


def test_a_session_has_one_beginning_of_its_own_which_its_turns_share(tmp_path: Path) -> None:
    talk = sessions(tmp_path, {"messages": [user("one"), model("x"), user("two")]}, reuse=False)
    first, again, other = (messages(talk.request(number))[0]["content"] for number in (0, 0, 1))
    assert first == again != other and first.endswith("\n\none") and other.endswith("\n\none")
    assert messages(talk.follow(0, ["A"]))[0]["content"] == first


def test_chats_come_round_again_and_what_is_no_chat_is_left_out(tmp_path: Path) -> None:
    rows = [
        {"prompt": "hi"},
        {"messages": [user("a")]},
        {"messages": [model("b")]},
        {"messages": [user("c"), user("d")]},
    ]
    talk = sessions(tmp_path, *rows)
    assert talk.size == 2 and [talk.turns(number) for number in range(4)] == [1, 2, 1, 2]
    assert "2 of 4 rows are left out: they are no chats, or their user says nothing" in talk.findings[0]
    assert "sessions of 1 to 2 turns (mean 1.5) of 2 chats" in talk.describe()


def test_a_session_without_end_is_cut(tmp_path: Path) -> None:
    talk = sessions(tmp_path, {"messages": [user(f"{turn}") for turn in range(MOST_TURNS + 5)]})
    assert talk.turns(0) == MOST_TURNS
    assert talk.findings == ("1 chats have more than 64 turns, of which the first 64 are sent",)


def test_time_to_think_is_drawn_once_for_each_turn(tmp_path: Path) -> None:
    talk = sessions(tmp_path, {"messages": TALK})
    drawn = [[talk.think_s(number, turn) for turn in (1, 2)] for number in range(1000)]
    assert np.mean(drawn) == pytest.approx(2.0, rel=0.1)
    assert talk.think_s(7, 2) == drawn[7][1] != drawn[7][0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"source": Synthetic()}, "sessions are made of a dataset of chats"),
        ({"content": Content(stream=False)}, "sessions are read from streams"),
    ],
)
def test_what_sessions_cannot_be_made_of_is_told(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(BenchError, match=words):
        sessions(tmp_path, {"messages": TALK}, **changes)
    with pytest.raises(BenchError, match="no chat with a user's message"):
        sessions(tmp_path, {"messages": [model("x")]})
