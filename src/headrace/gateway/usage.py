"""What engines say of an answer's usage, and how it is found in the bytes of an answer."""

from __future__ import annotations

import enum
import json
import re

import msgspec

USAGE = re.compile(rb'"usage"\s*:\s*(?=\{)')
"""A usage object as a member. The same words inside of a text cannot look so: there every quote is escaped."""


NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
EMPTY_CHOICE = b'"choices":[{"index":0,"delta":{"content":""},"finish_reason":null}]'


class UsageShown(enum.Enum):
    """What a client gets of the event that ends a stream with its usage, and has no choices."""

    NO = enum.auto()
    AS_IT_COMES = enum.auto()
    IN_A_CHOICE = enum.auto()
    """With a choice that says nothing: for clients that did not ask for the event. Those that read the usage of what
    comes find it, and those that take the first choice of every event find one."""


class Details(msgspec.Struct):
    cached_tokens: int | None = None


class Usage(msgspec.Struct):
    """As engines report it. ``prompt_tokens`` includes the cached ones."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: Details | None = None


class UsageEvent(msgspec.Struct):
    usage: Usage | None = None
    choices: list[msgspec.Raw] = []


class _Whole(msgspec.Struct):
    usage: Usage | None = None


_usage_event: msgspec.json.Decoder[UsageEvent] = msgspec.json.Decoder(UsageEvent)
_whole: msgspec.json.Decoder[_Whole] = msgspec.json.Decoder(_Whole)


def usage_of(event: bytes) -> UsageEvent | None:
    """The event's usage, where it has one."""
    if USAGE.search(event) is None:
        return None
    try:
        found = _usage_event.decode(event.strip().removeprefix(b"data:"))
    except msgspec.DecodeError:
        return None
    return found if found.usage is not None else None


def shown(event: bytes, found: UsageEvent, how: UsageShown) -> bytes:
    """What a client gets of an event with usage; nothing where it is for us alone."""
    if found.choices or how is UsageShown.AS_IT_COMES:
        return event
    return NO_CHOICES.sub(EMPTY_CHOICE, event, count=1) if how is UsageShown.IN_A_CHOICE else b""


def usage_of_whole(body: bytes) -> Usage | None:
    """The usage of a whole JSON answer."""
    try:
        return _whole.decode(body).usage
    except msgspec.DecodeError:
        return None


def usage_of_tail(tail: bytes) -> Usage | None:
    """The last usage object in the end of a JSON answer."""
    begins = [found.end() for found in USAGE.finditer(tail)]
    if not begins:
        return None
    try:
        members, _ = json.JSONDecoder().raw_decode(tail[begins[-1] :].decode(errors="replace"))
        return msgspec.convert(members, Usage)
    except (ValueError, msgspec.ValidationError):
        return None
