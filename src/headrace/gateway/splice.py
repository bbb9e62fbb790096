"""Changes to the top level of a JSON object, without taking it apart.

Most requests only lack a member, which is spliced in before the closing brace. Where one has to change or go, the top
level is decoded and encoded again; the values of the other members are copied as the bytes that they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

_members: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


def append(body: bytes, members: Mapping[str, Any]) -> bytes:
    """Add members that ``body``, a valid JSON object with at least one member, does not have."""
    if not members:
        return body
    head = body[: body.rindex(b"}")]
    return b"%b,%b" % (head, msgspec.json.encode(members)[1:])


def rewrite(body: bytes, members: Mapping[str, Any], drop: Collection[str] = ()) -> bytes:
    """Set members, whether ``body`` has them or not, and drop others."""
    whole: dict[str, Any] = dict(_members.decode(body))
    for name in drop:
        whole.pop(name, None)
    whole.update(members)
    return msgspec.json.encode(whole)
