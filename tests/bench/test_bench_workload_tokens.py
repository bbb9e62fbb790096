"""Prose of a length: exact by a tokenizer or the server's route, else learned from what the server counts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import msgspec
import pytest

from headrace.bench.errors import BenchError
from headrace.bench.workload.envelope import Request
from headrace.bench.workload.fit import calibrated, fitted, makes_prose, yardsticks
from headrace.bench.workload.source import open_workload
from headrace.bench.workload.spec import Amount, Content, Dataset, LoadSpec, Poisson, Synthetic, Uniform
from headrace.bench.workload.tokens import TokenizerFile, TokenizeRoute, server_tokens
from headrace.bench.workload.words import WORDS

DEAR = ("ancient", "golden", "mountain")


def spec(source: Synthetic | Dataset | None = None, **content: Any) -> LoadSpec:
    return LoadSpec(
        model="m",
        source=source or Synthetic(input=Uniform(1, 900), output=Uniform(5, 5)),
        content=Content(**({"prompt": "text"} | content)),
        arrivals=Poisson(1.0),
        amount=Amount(requests=1),
    )


def text(request: Request) -> str:
    body = json.loads(request.body)
    said: str = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
    return said


class Counted:
    """A model that puts ``start`` tokens first, to which all words are one token but those of ``DEAR``."""

    origin = "a tokenizer"
    local = True

    def __init__(self, start: int = 1, dear: tuple[str, ...] = DEAR, per_word: int = 1) -> None:
        self._start = start
        self._dear = dear
        self._per_word = per_word
        self.counts = 0

    def count(self, text: str) -> int:
        self.counts += 1
        words = text.split()
        return self._start + self._per_word * len(words) + 2 * sum(word in self._dear for word in words)


def test_fitted_prose_has_exactly_the_tokens_asked_for() -> None:
    tokens = Counted(start=1)
    load = open_workload(fitted(spec(), tokens))
    for number in range(300):
        request = load.request(number)
        assert tokens.count(text(request)) == request.input_tokens
        assert not set(DEAR) & set(text(request).split())
    assert "of exactly that length by a tokenizer" in load.describe()


def test_the_tokens_come_out_as_the_drawn_lengths_down_to_the_shortest_prompt_there_is() -> None:
    load = open_workload(spec(Synthetic(input=Uniform(1, 6), output=Uniform(1, 1))), Counted(start=1))
    drawn = load.lengths[:200, 0].tolist()
    assert [load.request(number).input_tokens for number in range(200)] == [max(2, int(asked)) for asked in drawn]


def test_few_counts_find_the_words_that_are_dear() -> None:
    tokens = Counted()
    known = fitted(spec(), tokens).content.prose
    assert known is not None
    assert sorted(known.left_out) == sorted(DEAR)
    assert tokens.counts < 60


def test_a_tokenizer_to_which_no_word_is_one_token_is_met_on_average() -> None:
    tokens = Counted(per_word=3)
    load = open_workload(fitted(spec(), tokens))
    asked = counted = 0
    for number in range(300):
        request = load.request(number)
        assert request.input_tokens is not None
        asked += request.input_tokens
        counted += tokens.count(text(request))
    assert counted == pytest.approx(asked, rel=0.01)
    assert asked == pytest.approx(load.lengths[:300, 0].sum(), rel=0.01)
    assert "of about that length" in load.describe()


def test_what_a_chats_template_adds_stays_open_until_the_server_counts() -> None:
    known = fitted(spec(api="chat"), Counted())
    load = open_workload(known)
    assert load.request(3).input_tokens is None
    assert "to which the template of the chat comes" in load.describe()
    assert yardsticks(known)


@pytest.mark.parametrize("api", ["completions", "chat"])
@pytest.mark.parametrize(("per_word", "around"), [(1, 0), (1, 23), (2, 7)])
def test_usage_of_a_few_requests_makes_prose_exact(api: str, per_word: int, around: int) -> None:
    server = Counted(start=around, dear=(), per_word=per_word)
    before = spec(api=api, source=Synthetic(input=Uniform(60, 900), output=Uniform(5, 5)))
    sticks = yardsticks(before)
    known = calibrated(before, [(stick, server.count(text(stick.request))) for stick in sticks])
    load = open_workload(known)
    for number in range(100):
        request = load.request(number)
        assert server.count(text(request)) == request.input_tokens
    assert yardsticks(known) == ()
    assert "by the server's usage of 4 requests" in load.describe()


def test_calibration_asks_for_few_words_and_one_token_and_no_request_of_the_run() -> None:
    before = spec()
    sticks = yardsticks(before)
    load = open_workload(before)
    assert all(json.loads(stick.request.body)["max_tokens"] == 1 for stick in sticks)
    assert all(len(text(stick.request).split()) == stick.size + 1 <= 161 for stick in sticks)
    heads = {tuple(text(load.request(number)).split()[:16]) for number in range(500)}
    assert not heads & {tuple(text(stick.request).split()[:16]) for stick in sticks}


def test_words_that_are_dear_here_and_there_make_lengths_close() -> None:
    server = Counted(start=5)
    sticks = yardsticks(spec())
    known = calibrated(spec(), [(stick, server.count(text(stick.request))) for stick in sticks])
    load = open_workload(known)
    asked = sum(load.request(number).input_tokens or 0 for number in range(300))
    counted = sum(server.count(text(load.request(number))) for number in range(300))
    assert counted == pytest.approx(asked, rel=0.03)


@pytest.mark.parametrize(
    ("counts", "words"),
    [([7, 7, 7, 7], "expected more tokens for more words"), ([], "the server counted no tokens")],
)
def test_usage_that_cannot_be_of_the_prompts_is_refused(counts: list[int], words: str) -> None:
    with pytest.raises(BenchError, match=words):
        calibrated(spec(), list(zip(yardsticks(spec()), counts, strict=False)))


def test_counts_of_one_length_alone_are_not_enough() -> None:
    sticks = yardsticks(spec())[:2]
    with pytest.raises(BenchError, match="only prompts of one length"):
        calibrated(spec(), [(stick, 40) for stick in sticks])


def test_nothing_is_learned_where_prompts_are_ids_or_a_datasets_own(tmp_path: Path) -> None:
    path = tmp_path / "chats"
    path.write_text('{"prompt": "Hello"}\n')
    given = Dataset(path=str(path))
    for known in (spec(prompt="ids"), spec(given), spec(given, api="chat")):
        assert not makes_prose(known)
        assert yardsticks(known) == ()
        assert fitted(known, Counted()) == known


def test_lengths_of_a_dataset_are_met_in_prose_too(tmp_path: Path) -> None:
    path = tmp_path / "lengths.csv"
    path.write_text("input,output\n100,5\n321,6\n")
    tokens = Counted(start=2)
    load = open_workload(spec(Dataset(path=str(path))), tokens)
    assert [tokens.count(text(load.request(number))) for number in range(2)] == [100, 321]


# Texts of a dataset


CONVERSATIONS = [
    {"conversations": [{"from": "human", "value": "word " * 40}, {"from": "gpt", "value": "word " * (10 * turn + 10)}]}
    for turn in range(12)
]


def test_answers_are_counted_by_a_tokenizer_at_hand(tmp_path: Path) -> None:
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps(CONVERSATIONS))
    load = open_workload(spec(Dataset(path=str(path))), Counted(start=1))
    assert [load.request(number).output_tokens for number in range(3)] == [10, 20, 30]
    assert "by a tokenizer" in load.describe()


def test_else_their_bytes_are_reckoned_as_the_server_counts_such_texts(tmp_path: Path) -> None:
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps(CONVERSATIONS))
    before = spec(Dataset(path=str(path)))
    sticks = yardsticks(before)
    assert {stick.unit for stick in sticks} == {"bytes"}
    assert all(json.loads(stick.request.body)["max_tokens"] == 1 for stick in sticks)
    known = calibrated(before, [(stick, 40) for stick in sticks])
    assert [open_workload(known).request(number).output_tokens for number in range(3)] == [10, 20, 30]
    assert yardsticks(known) == ()
    with pytest.raises(BenchError, match="counted 0 tokens in"):
        calibrated(before, [(stick, 0) for stick in sticks])


def test_prompts_of_a_dataset_are_counted_with_their_heads(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("one two three\n")
    tokens = Counted(start=1, dear=())
    for reuse in (False, True):
        request = open_workload(spec(Dataset(path=str(path)), reuse=reuse), tokens).request(7)
        assert tokens.count(text(request)) == request.input_tokens


# A tokenizer's file


@pytest.fixture(scope="module")
def tokenizer_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Byte-level BPE as models have it, with a start token, trained on all words but the dear ones."""
    tokenizers = pytest.importorskip("tokenizers")
    from tokenizers import decoders, models, pre_tokenizers, processors, trainers  # noqa: PLC0415

    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=5000,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    known = [word for word in WORDS if word not in DEAR]
    tokenizer.train_from_iterator([" ".join(["Once", *known])] * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.enable_truncation(max_length=64)
    tokenizer.save(str(path))
    return path


def test_a_tokenizers_file_makes_prose_exact_in_every_process_that_names_it(tokenizer_json: Path) -> None:
    tokens = TokenizerFile(str(tokenizer_json))
    load = open_workload(spec(tokenizer=str(tokenizer_json)))
    for number in range(100):
        request = load.request(number)
        assert tokens.count(text(request)) == request.input_tokens
    assert f"of exactly that length by the tokenizer {tokenizer_json}" in load.describe()


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(BenchError, match=r"is no tokenizer .*expected a tokenizer.json"):
        TokenizerFile(str(path))


def test_a_tokenizer_is_not_opened_for_token_ids() -> None:
    assert open_workload(spec(prompt="ids", tokenizer="absent.json")).request(0).input_tokens is not None


def test_without_the_package_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(BenchError, match=r"pip install 'headrace\[tokenizers\]'"):
        TokenizerFile("tokenizer.json")


# The server's route


def llama(body: dict[str, Any]) -> Any:
    return {"tokens": [1] * (len(body["content"].split()) + 1)}


def vllm(body: dict[str, Any]) -> Any:
    assert body["model"] == "m"
    return {"count": len(body["prompt"].split()) + 1, "max_model_len": 4096, "tokens": []}


@contextmanager
def serving(answer: Callable[[dict[str, Any]], Any]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        keys: ClassVar[list[str | None]] = []

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            said = answer(body) if self.path == "/tokenize" and self.headers["authorization"] == "Bearer k" else None
            payload = json.dumps(said).encode()
            self.send_response(404 if said is None else 200)
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("answer", [llama, vllm])
def test_the_servers_own_route_makes_prose_exact(answer: Callable[[dict[str, Any]], Any]) -> None:
    with serving(answer) as url:
        tokens = server_tokens(url, "m", "k")
        assert tokens is not None
        load = open_workload(fitted(spec(), tokens))
    request = load.request(5)
    assert request.input_tokens == len(text(request).split()) + 1
    assert "of exactly that length by the server's tokenize route" in load.describe()


@pytest.mark.parametrize("answer", [lambda _: None, lambda _: {"count": 7}, lambda _: {"tokens": []}, lambda _: [1]])
def test_a_server_without_the_route_or_with_another_meaning_of_it_has_no_tokenizer(
    answer: Callable[[dict[str, Any]], Any],
) -> None:
    with serving(answer) as url:
        assert server_tokens(url, "m", "k") is None


def test_a_server_that_is_not_there_has_no_tokenizer_and_a_count_says_so() -> None:
    with serving(vllm) as url:
        pass
    assert server_tokens(url, "m") is None
    with pytest.raises(BenchError, match=f"{url}/tokenize does not count tokens"):
        TokenizeRoute(url, "m").count("one")


def test_a_specification_travels_whole() -> None:
    """What was learned goes to the processes inside it."""
    known = fitted(spec(), Counted())
    assert msgspec.json.decode(msgspec.json.encode(known), type=LoadSpec) == known
