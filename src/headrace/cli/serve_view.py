"""What ``headrace serve`` says while it starts and once it serves. It watches the server from outside, as a user."""

from __future__ import annotations

import http.client
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import which
from typing import Any

from headrace.cli.connection import Connection, local_cert, path_part
from headrace.cli.errors import CommandError
from headrace.cli.output import chunks, span
from headrace.cli.profile_view import profile_label
from headrace.paths import DataDir

POLL_S = 0.2
HEALTH_TIMEOUT_S = 5.0
MEASURING_POLL_S = 1.0
LONGEST_WATCH_S = 600.0
"""After this long the view stops looking; ``headrace status`` tells the rest."""

API = "/api/headrace/v1"
FAILED = "failed"
"""State of an endpoint whose replicas cannot start."""
REFUSED = "first_endpoint_refused"
"""Kind of the event by which the controller tells that it made no first endpoint."""
MEASURING = "measuring_"
"""Kinds of the events by which it tells of a first measurement begin like this."""


class Announcer:
    """Runs in a thread of its own; ends by itself. ``say`` prints one line for people, ``tell`` one JSON document."""

    def __init__(self, data: DataDir, say: Callable[[str], None], tell: Callable[[dict[str, Any]], None]) -> None:
        self.data = data
        self.say = say
        self.tell = tell
        self._began_ms = time.time() * 1000
        self._until = time.monotonic() + LONGEST_WATCH_S

    def run(self, url: str) -> None:
        """From the bound socket to the measured range."""
        started = time.monotonic()
        self.say(f"Headrace starts at {url} (data directory {self.data.root})")
        if not self._healthy(url):
            self.say("Not ready after ten minutes: `headrace status` says what it waits for")
            return
        took = time.monotonic() - started
        key = self.data.admin_key
        self.tell({"url": url, "admin_key_file": str(key), "ready_s": round(took, 2)})
        try:
            server = Connection(url, key.read_text().strip(), local_cert(self.data))
            endpoints = server.get(f"{API}/endpoints")["endpoints"]
        except (CommandError, OSError) as error:
            self.say(f"Up after {took:.1f} s. Admin key: {key}")
            self.say(f"Cannot read the endpoints: {error}")
            return
        serves = not endpoints or any(endpoint["state"] != FAILED for endpoint in endpoints)
        self.say(f"{'Ready' if serves else 'Up, but no endpoint can serve,'} after {took:.1f} s. Admin key: {key}")
        try:
            self._endpoints(server, endpoints, url)
        except (CommandError, OSError) as error:
            self.say(f"Cannot read more: {error}")

    def _healthy(self, url: str) -> bool:
        server = Connection(url, None, local_cert(self.data))
        while time.monotonic() < self._until:
            try:
                connection = server.open(HEALTH_TIMEOUT_S)
                connection.request("GET", "/healthz")
                status = connection.getresponse().status
                connection.close()
                if status == http.client.OK:
                    return True
            except (OSError, http.client.HTTPException):
                pass  # not yet: that is what is waited for
            time.sleep(POLL_S)
        return False

    def _endpoints(self, server: Connection, endpoints: Sequence[dict[str, Any]], url: str) -> None:
        if not endpoints:
            # Of this start only: an older refusal stays in the log.
            for event in server.get(f"{API}/events")["events"]:
                if event["kind"] == REFUSED and event["at_ms"] >= self._began_ms:
                    self.say(event["message"])
            self.say("There is no endpoint yet. Make one: headrace endpoints create NAME --model MODEL")
            return
        for endpoint in endpoints:
            self.say(f"Endpoint {_range(endpoint)}")
            if endpoint["state"] == FAILED:
                failure = endpoint["last_failure"]
                for why in endpoint["problems"] if failure is None else [failure["message"]]:
                    self.say(f"  cannot serve: {why}")
        models = server.get(f"{API}/models")["models"]
        several = Counter(model["name"] for model in models)
        for model in models:
            spec = f"{model['name']}/{model['version']}" if several[model["name"]] > 1 else model["name"]
            for doubt in model["profile_doubts"]:
                self.say(f"The profile of {spec}: {doubt}; `headrace profile {spec}`")
        serving = next((endpoint for endpoint in endpoints if endpoint["state"] != FAILED), None)
        if serving is None:
            self.say("It is tried on; see how with: headrace status")
        else:
            self.say("Try it:\n" + _curl(url, self.data, serving["name"]))
        self.say(f"The page: {url}/   Other commands: {_program()} --help   Stop: Ctrl-C")
        for endpoint in endpoints:
            self._measured(server, endpoint)

    def _measured(self, server: Connection, endpoint: dict[str, Any]) -> None:
        """Wait for the end of a first measurement, where one is under way, and tell what comes in its way."""
        seen = 0
        while endpoint.get("measuring") and time.monotonic() < self._until:
            time.sleep(MEASURING_POLL_S)
            # First the endpoint, then the events: none of a measurement that has ended is missed.
            endpoint = server.get(f"{API}/endpoints/{path_part(endpoint['name'])}")
            for event in server.get(f"{API}/events", endpoint=endpoint["name"])["events"]:
                if event["kind"].startswith(MEASURING) and event["at_ms"] >= self._began_ms and event["id"] > seen:
                    seen = event["id"]
                    self.say(event["message"])
            if not endpoint.get("measuring") and endpoint["profile_status"] != "provisional":
                self.say(f"Measured: {_range(endpoint)}")


def _range(endpoint: dict[str, Any]) -> str:
    chunk = endpoint["chunk"]
    low, high = endpoint["min_chunks"], endpoint["max_chunks"]
    label = profile_label(endpoint["profile_status"], simulated=endpoint["simulated"])
    text = (
        f"{endpoint['name']}: {span(low * chunk, high * chunk)} reference tokens/s, "
        f"{chunks(low, high)} of {chunk:,.0f}, {label} profile"
    )
    if endpoint.get("measuring"):
        text += "; being measured on this machine now, for a minute or more (to stop that: headrace profile --stop)"
    return text


def _program() -> str:
    """As it can be called from here: ``make`` puts it into a virtual environment that is not on the PATH."""
    called = Path(sys.argv[0])
    return str(called) if called.name == "headrace" and which("headrace") is None else "headrace"


def _curl(url: str, data: DataDir, name: str) -> str:
    cert = local_cert(data)
    trust = "" if cert is None else f"--cacert '{cert}' "
    return (
        f"  curl -s {trust}{url}/v1/chat/completions -H \"Authorization: Bearer $(cat '{data.admin_key.resolve()}')\" "
        "-H 'Content-Type: application/json' "
        f'-d \'{{"model": "{name}", "messages": [{{"role": "user", "content": "Hello!"}}], "max_tokens": 64}}\''
    )
