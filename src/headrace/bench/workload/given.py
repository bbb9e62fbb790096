"""Requests whose texts are a dataset's own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import nan
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.bench.errors import BenchError
from headrace.bench.workload.datasets.rows import MOST_TEXTS, Text, kept, left_out
from headrace.bench.workload.envelope import Envelope, Request, asked_output
from headrace.bench.workload.lengths import Order
from headrace.bench.workload.spec import Dataset, LoadSpec
from headrace.bench.workload.stock import Stock, fresh, id_stock, word_stock
from headrace.bench.workload.tokens import Tokens

BYTES_PER_TOKEN = 4.0
"""Of English text, by rule of thumb, where nothing better is known."""

_MARK = "\x00head\x00"
"""Stands for the head while a body is encoded."""

_MARK_IN_TEXT = json.dumps(_MARK)[1:-1].encode()
_MARK_IN_IDS = json.dumps(_MARK).encode() + b","


class _Body(NamedTuple):
    """A body, encoded but for its head."""

    path: str
    start: bytes
    stock: Stock | None
    """What the head is made of, between start and rest; None: there is none."""
    rest: bytes
    input_tokens: int | None
    output_tokens: int | None


class Given:
    """Requests of a dataset, encoded once; only heads differ from one time round to the next."""

    trace_s: NDArray[np.float64] | None = None

    def __init__(self, spec: LoadSpec, dataset: Dataset, texts: Iterable[Text | None], tokens: Tokens | None) -> None:
        """``tokens`` counts prompts and answers; without it, answers are reckoned by their size. Raises BenchError
        where no row can be used."""
        self._dataset = dataset
        self._tokens = tokens
        self._content = spec.content
        self._seed = spec.seed
        self._envelope = Envelope(spec.model, spec.content)
        self._words = word_stock((), spec.content.salt, spec.seed)
        self._ids = id_stock(spec.content, spec.seed)
        self._replies = 0
        self.findings: tuple[str, ...] = ()
        self._bodies: list[_Body] = []
        rows = 0
        for text in texts:
            rows += 1
            if text is not None:
                self._bodies.append(self._encoded(text))
            if len(self._bodies) == MOST_TEXTS:
                self.findings = (kept(dataset.path, MOST_TEXTS),)
                break
        self.size: int | None = len(self._bodies)
        if not self._bodies:
            raise BenchError(f"{dataset.path} holds no request that can be sent ({rows:,} rows); expected one or more")
        self.findings += left_out(rows - self.size, rows, "they have no prompt, or no answer where one is expected")
        if not spec.content.reuse and (bare := sum(body.stock is None for body in self._bodies)):
            self.findings += (
                f"{bare:,} requests begin with no text, and so get no beginning of their own: a prefix cache may help",
            )
        self._order = Order(self.size, spec.seed, dataset.shuffle)
        self.lengths = np.array(
            [(_known(body.input_tokens), _known(body.output_tokens)) for body in self._bodies], dtype=np.float64
        )

    def request(self, number: int) -> Request:
        path, start, stock, rest, input_tokens, output_tokens = self._bodies[self._order.row(number)]
        # The space before the first word of a head is its own; ids have a comma after each, the last one too.
        head = b"" if stock is None else stock.head(number).lstrip()
        return Request(path, start + head + rest, input_tokens, output_tokens)

    def describe(self) -> str:
        parts = [
            f"{self.size:,} requests of {self._dataset.path}, {'shuffled' if self._dataset.shuffle else 'in order'}"
        ]
        if self._replies:
            by = self._tokens.origin if self._tokens else f"{self._bytes_per_token:.2f} bytes a token"
            parts.append(f"output as long as the answers there, by {by}")
        if not self._content.reuse:
            parts.append(fresh(self._content, self._seed))
        unsaid = int(np.count_nonzero(np.isnan(self.lengths[:, 1])))
        if unsaid < len(self._bodies):
            parts.append("output length forced" if self._content.force_length else "output length limited, not forced")
        if unsaid:
            parts.append(f"of {unsaid:,} the model decides the output length")
        return "; ".join(parts)

    @property
    def _bytes_per_token(self) -> float:
        prose = self._content.prose
        return (prose.bytes_per_token if prose else None) or BYTES_PER_TOKEN

    def _encoded(self, text: Text) -> _Body:
        fields = text.fields
        if self._content.api == "chat" and isinstance(fields.get("prompt"), str):
            others = {name: value for name, value in fields.items() if name != "prompt"}
            fields = {"messages": [{"role": "user", "content": fields["prompt"]}], **others}
        output_tokens = self._dataset.output_tokens
        if text.reply is not None:
            self._replies += 1
            output_tokens = self._reply_tokens(text.reply)
        body = self._envelope.given(fields, output_tokens)
        path = self._envelope.chat_path if "messages" in body else self._envelope.completions_path
        asked = asked_output(body)
        if self._content.reuse:
            return _Body(path, json_body(body), None, b"", self._input_tokens(body, None), asked)
        mark = _MARK_IN_IDS if isinstance(body.get("prompt"), list) else _MARK_IN_TEXT
        start, _, rest = json_body(_marked(body)).partition(mark)
        stock = self._ids if mark is _MARK_IN_IDS else self._words
        return _Body(path, start, stock if rest else None, rest, self._input_tokens(body, stock), asked)

    def _reply_tokens(self, reply: str) -> int:
        if self._tokens is None:
            return max(1, round(len(reply.encode(errors="replace")) / self._bytes_per_token))
        return max(1, self._tokens.count(reply) - self._tokens.count(""))

    def _input_tokens(self, body: dict[str, Any], head: Stock | None) -> int | None:
        """None for chats: what their template adds only the server knows."""
        match body.get("prompt"):
            case list() as ids:
                return len(ids) + (head.head_size if head else 0)
            case str() as prompt if self._tokens:
                # All heads have as many tokens as this one: they are as many words.
                start = head.head(0).decode().lstrip() + "\n\n" if head else ""
                return self._tokens.count(start + prompt)
        return None


def _marked(body: dict[str, Any]) -> dict[str, Any]:
    """With a mark where the prompt begins; without one where that is no text (a message of images alone gets one)."""
    match body:
        case {"prompt": list() as ids}:
            return body | {"prompt": [_MARK, *ids]}
        case {"prompt": str() as prompt}:
            return body | {"prompt": f"{_MARK}\n\n{prompt}"}
        case {"messages": [first, *others]}:
            return body | {"messages": [first | {"content": _marked_content(first.get("content"))}, *others]}
    return body


def _marked_content(content: Any) -> Any:
    match content:
        case str():
            return f"{_MARK}\n\n{content}"
        case list():
            return [{"type": "text", "text": _MARK}, *content]
    return content


def json_body(body: dict[str, Any]) -> bytes:
    """As clients encode it: UTF-8, without spaces."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair, as broken exports have it: JSON can say it, UTF-8 cannot.
        return json.dumps(body, separators=(",", ":")).encode()


def _known(tokens: int | None) -> float:
    return nan if tokens is None else tokens
