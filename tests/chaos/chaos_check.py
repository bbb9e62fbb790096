"""What must hold when everything has healed: every request that got a byte is accounted for once, and no more."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from chaos_books import Journals
from chaos_clients import Attempt
from chaos_kills import Kill
from chaos_phases import Target

from headrace.policy.billing import amount_micro

LOST_AT_MOST_S = 1.5
"""Of a stream, by the kill -9 of its gateway: progress is journaled every second, looked at five times a second."""

HEARD_S = 0.2
"""What a process sent, or that it is dead, reaches a client this much later at most."""
UNAVAILABLE_S = 20.0
"""After a kill: until gateway and replicas are back, requests may be refused."""


@dataclass(frozen=True)
class Evidence:
    attempts: list[Attempt]
    kills: list[Kill]
    journals: Journals
    usage: list[dict[str, Any]]
    """The ledger's rows."""
    conflicts: list[dict[str, Any]]
    bills: list[Any]
    chunks: int
    """Of every endpoint, minimum and maximum."""
    replicas_told: dict[str, int]
    """By the controller: process by replica."""
    processes: dict[int, str]
    """Below the supervisor: kind by process."""


@dataclass(frozen=True)
class Loss:
    """Of one stream whose gateway was killed: what its client saw and the books do not have."""

    tokens: int
    seconds: float
    """From the last token that is recorded to the kill."""


def check(evidence: Evidence, problems: list[str], losses: list[Loss]) -> None:
    """Add what is wrong to ``problems``, and what kills of gateways have cost to ``losses``."""
    _journal(evidence, problems)
    _ledger(evidence, problems)
    _clients(evidence, problems, losses)
    _failures(evidence, problems)
    _bills(evidence, problems)
    _processes(evidence, problems)


def _journal(evidence: Evidence, problems: list[str]) -> None:
    for damage in evidence.journals.corrupt:
        problems.append(f"damaged line in {damage.file} at {damage.offset}: {damage.reason}")
    for rid, told in evidence.journals.requests.items():
        if len(told.writers) > 1:
            problems.append(f"{rid} is in the journals of several gateways: {sorted(told.writers)}")
        if len(told.ends) > 1:
            problems.append(f"{rid} has ended {len(told.ends)} times in the journal")
        keys = Counter((type(record), record.seq) for record in (*told.reserved, *told.progress, *told.ends))
        problems += [f"{rid}: key {key} is in the journal {count} times" for key, count in keys.items() if count > 1]


def _ledger(evidence: Evidence, problems: list[str]) -> None:
    rows = Counter(row["rid"] for row in evidence.usage)
    journal = evidence.journals.requests
    problems += [f"{rid} is in the ledger {count} times" for rid, count in rows.items() if count > 1]
    problems += [f"{rid} is in the ledger and in no journal" for rid in rows.keys() - journal.keys()]
    problems += [f"{rid} is in a journal and not in the ledger" for rid in journal.keys() - rows.keys()]
    problems += [f"the ledger has a conflict: {conflict['reason']}" for conflict in evidence.conflicts]
    for row in evidence.usage:
        told = journal.get(row["rid"])
        if told is None:
            continue
        if row["ended"] is None:
            problems.append(f"{row['rid']} has not ended in the ledger")
        elif (row["ended"] == "recovered") != (not told.settled):
            problems.append(f"{row['rid']} is {row['ended']} in the ledger, its journal says {told.ends}")


def _clients(evidence: Evidence, problems: list[str], losses: list[Loss]) -> None:
    """Each answer that a client got a byte of is on the books, with at least the tokens that it saw."""
    rows = {row["rid"]: row for row in evidence.usage}
    gateways = {kill.child.token: kill for kill in evidence.kills if kill.target is Target.GATEWAY}
    answered = [attempt for attempt in evidence.attempts if attempt.answered]
    rids = Counter(attempt.rid for attempt in answered)
    problems += [f"two answers have the request id {rid}" for rid, count in rids.items() if count > 1]
    for attempt in answered:
        row = rows.get(attempt.rid or "")
        if row is None:
            problems.append(f"{attempt.rid}: the client got {attempt.bytes} bytes; no record of it")
            continue
        if row["client_request_id"] != attempt.client_id or row["endpoint_name"] != attempt.endpoint:
            problems.append(f"{attempt.rid} is recorded as another request: {row['client_request_id']}")
        out = row["output_tokens"]
        if out > attempt.max_tokens:
            problems.append(f"{attempt.rid}: {out} tokens recorded of at most {attempt.max_tokens}")
        if row["ended"] == "recovered":
            killed = gateways.get(row["writer"])
            if killed is None:
                problems.append(f"{attempt.rid} was recovered, and nobody killed its gateway")
                continue
            due = attempt.tokens_by(killed.at - LOST_AT_MOST_S)
            if out < due:
                problems.append(f"{attempt.rid}: {out} tokens recorded; its client had {due} {LOST_AT_MOST_S} s before")
            since = next((when for when, tokens in attempt.seen if tokens > out), None)
            if since is not None:
                losses.append(Loss(attempt.tokens - out, killed.at - since))
        elif out < attempt.tokens:
            problems.append(f"{attempt.rid}: {out} tokens recorded, its client saw {attempt.tokens}")
        if attempt.complete and row["ended"] != "recovered":
            whole = (row["outcome"], row["status"], out, bool(row["exact"]))
            if whole != ("ok", 200, attempt.max_tokens, True):
                problems.append(f"{attempt.rid}: complete at the client, recorded as {whole}")
            usage = attempt.usage
            if usage and (usage["prompt_tokens"], usage["completion_tokens"]) != (row["input_tokens"], out):
                problems.append(
                    f"{attempt.rid}: its client was told {usage}, recorded are {row['input_tokens']}, {out}"
                )
        elif attempt.complete:
            problems.append(f"{attempt.rid}: complete at the client, and its settlement was lost")


def _failures(evidence: Evidence, problems: list[str]) -> None:
    """A request fails by the kill of its gateway or its replica, or for a while after one; never by a controller's."""
    kills = [kill for kill in evidence.kills if kill.target is not Target.CONTROLLER]
    for attempt in evidence.attempts:
        began, ended = attempt.began, attempt.ended
        if attempt.failure is None or ended is None:
            continue
        told = evidence.journals.requests.get(attempt.rid or "")
        replica = told.reserved[-1].replica if told is not None and told.reserved else None
        match attempt.failure:
            case "lost":
                # Of its replica too, in mid-stream: aiohttp drops an event that comes together with the cut.
                cut = replica if attempt.stream and attempt.status == 200 else None
                causes = [
                    kill
                    for kill in kills
                    if (kill.target is Target.GATEWAY or kill.child.token == cut) and _meet(kill, began, ended, 0.0)
                ]
            case "event":
                causes = [kill for kill in kills if kill.child.token == replica and _meet(kill, began, ended, 0.0)]
            case "502" | "503":
                causes = [kill for kill in kills if _meet(kill, began, ended, UNAVAILABLE_S)]
            case _:
                causes = []
        if not causes:
            problems.append(f"{attempt.rid or attempt.client_id} failed ({attempt.failure}), and no kill explains it")


def _meet(kill: Kill, began: float, ended: float, lasts_s: float) -> bool:
    """The kill, which is felt for so long, falls into this time. Of a death a client may hear a moment later."""
    return kill.at <= ended and began <= kill.dead + max(lasts_s, HEARD_S)


def _bills(evidence: Evidence, problems: list[str]) -> None:
    """The spans of a bill follow each other without a gap, and each chunk is billed once."""
    for bill in evidence.bills:
        spans = [span for line in bill["lines"] for span in line["spans"]]
        for before, after in pairwise(spans):
            if before["to_ms"] != after["from_ms"]:
                problems.append(f"bill of {bill['endpoint']}: {before['to_ms']} is followed by {after['from_ms']}")
        for span in spans:
            provided = span["ready"] + span["draining_own"]
            due = max(span["min_chunks"], provided) if span["endpoint_ready"] else provided
            if span["chunks"] != due or due > evidence.chunks:
                problems.append(
                    f"bill of {bill['endpoint']}: {span['chunks']} chunks billed where {due} are due: {span}"
                )
        for line in bill["lines"]:
            chunk_ms = sum(span["chunks"] * (span["to_ms"] - span["from_ms"]) for span in line["spans"])
            amount = amount_micro(chunk_ms, line["price_micro_per_chunk_hour"])
            if (line["chunk_ms"], line["amount_micro"]) != (chunk_ms, amount):
                problems.append(f"bill of {bill['endpoint']}: a line does not add up: {line}")


def _processes(evidence: Evidence, problems: list[str]) -> None:
    """One gateway, one controller, and the replicas that the controller knows of."""
    kinds = Counter(evidence.processes.values())
    if (kinds.pop("gateway", 0), kinds.pop("controller", 0)) != (1, 1) or kinds.keys() - {"engines"}:
        problems.append(f"processes of the server: {evidence.processes}")
    running = {pid for pid, kind in evidence.processes.items() if kind == "engines"}
    known = set(evidence.replicas_told.values())
    if running != known:
        problems.append(f"replica processes {sorted(running)}, and the controller knows {sorted(known)}")
