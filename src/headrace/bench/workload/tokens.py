"""Counting the tokens of a text, where something at hand can: a tokenizer's file, or the server itself."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from typing import Any, Protocol

from headrace.bench.errors import BenchError


class Tokens(Protocol):
    """A tokenizer, as far as a load needs one."""

    origin: str
    """What counts, in words."""
    local: bool
    """A count takes microseconds, so that a dataset may be counted through."""

    def count(self, text: str) -> int:
        """Input tokens of a prompt, with what the model puts before it. Raises BenchError where it cannot count."""
        ...


class TokenizerFile:
    """A ``tokenizer.json``, as Hugging Face models have it."""

    local = True

    def __init__(self, path: str) -> None:
        """Raises BenchError without the package for it, or for another kind of file."""
        try:
            from tokenizers import Tokenizer  # noqa: PLC0415 - optional
        except ImportError:
            raise BenchError(
                f"{path} needs the package tokenizers; expected it to be installed: pip install 'headrace[tokenizers]'"
            ) from None
        try:
            self._tokenizer = Tokenizer.from_file(path)
        except Exception as error:  # the package raises nothing narrower
            raise BenchError(f"{path} is no tokenizer ({error}); expected a tokenizer.json") from None
        # A file may ask for shorter or longer inputs than are given; a prompt is as long as it is.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.origin = f"the tokenizer {path}"

    def count(self, text: str) -> int:
        return len(self._tokenizer.encode(text).ids)


class TokenizeRoute:
    """``POST /tokenize`` of llama.cpp, vLLM or SGLang."""

    local = False
    origin = "the server's tokenize route"

    def __init__(
        self,
        url: str,
        model: str,
        key: str | None = None,
        *,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        """``url`` goes up to and without ``/v1``."""
        self._url = f"{url}/tokenize"
        self._model = model
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        # No proxy of the environment: the tokens of a server are asked where the load goes.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=tls)
        )
        self._timeout_s = timeout_s

    def count(self, text: str) -> int:
        # llama.cpp reads "content", the others "prompt"; each leaves what it does not know.
        fields = {"model": self._model, "prompt": text, "content": text, "add_special": True}
        request = urllib.request.Request(self._url, json.dumps(fields).encode(), self._headers, method="POST")
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                answer = json.load(response)
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise BenchError(f"{self._url} does not count tokens ({error})") from None
        return _count(answer, self._url)


def server_tokens(
    url: str, model: str, key: str | None = None, *, tls: ssl.SSLContext | None = None
) -> TokenizeRoute | None:
    """The server's tokenizer; None where it has no route for it."""
    tokens = TokenizeRoute(url, model, key, tls=tls)
    try:
        # A server that answers everything alike, or not by the text, is none.
        return tokens if 0 < tokens.count("one") < tokens.count("one two three four five six seven eight") else None
    except BenchError:
        return None


def _count(answer: Any, url: str) -> int:
    match answer:
        case {"count": int() as count}:
            return count
        case {"tokens": [*tokens]}:
            return len(tokens)
    raise BenchError(f'{url} does not count tokens; expected an answer with "count" or "tokens"')
