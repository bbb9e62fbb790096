"""Ids of requests."""

from __future__ import annotations

import re

from headrace.gateway.request_ids import AHEAD, RequestIds


def test_no_two_ids_are_the_same() -> None:
    ids = RequestIds()
    others = RequestIds()
    found = [ids.next() for _ in range(3 * AHEAD)] + [others.next() for _ in range(3 * AHEAD)]
    assert len(set(found)) == len(found)
    assert all(re.fullmatch("req-[0-9a-f]{24}", one) for one in found)
