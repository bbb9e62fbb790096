"""A stand-in for the programs of vLLM, SGLang and llama.cpp: their command line and what Headrace asks, no model.

It is none of them: it shows that Headrace starts, asks, and ends such a program as it says it does. Written to a folder
as programs of those names by ``stand_in``.

What it does is said by environment variables, as the real programs do not take such orders:
``STAND_IN_DIES`` (before it is ready), ``STAND_IN_HANGS`` (never ready), ``STAND_IN_EMBEDS`` (generates nothing),
``STAND_IN_TOLD`` (a file to which it writes what it was given).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VERSION = "0.0.stand-in"
FLAGS = {
    "vllm": "--max-model-len --max-num-seqs --tensor-parallel-size --dtype --gpu-memory-utilization",
    "sglang": "--model-path --context-length --max-running-requests --tp-size --device --log-level-http --config "
    "--dtype",
    "llama-server": "--model --alias --threads --ctx-size --parallel --batch-size --ubatch-size",
}
SWITCHES = {
    "vllm": "--enable-prompt-tokens-details --disable-uvicorn-access-log --enable-prefix-caching "
    "--no-enable-prefix-caching --enforce-eager",
    "sglang": "--enable-cache-report --disable-radix-cache",
    "llama-server": "--no-cache-prompt",
}


def stand_in(folder: Path, name: str) -> Path:
    """The program of that name, in a folder."""
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{Path(__file__).read_text()}\n\nsys.exit(main({name!r}))\n")
    path.chmod(0o755)
    return path


def main(name: str) -> int:
    parser = argparse.ArgumentParser(name, allow_abbrev=False)
    if name != "llama-server":
        parser.add_argument("command", choices=["serve"])
    if name == "vllm":
        parser.add_argument("weights")
    for flag in ("--host", "--served-model-name", *FLAGS[name].split()):
        parser.add_argument(flag)
    for switch in SWITCHES[name].split():
        parser.add_argument(switch, action="store_true")
    parser.add_argument("--port", type=int)
    asked = parser.parse_args()
    served = asked.alias if name == "llama-server" else asked.served_model_name
    key = os.environ.get("LLAMA_API_KEY" if name == "llama-server" else "VLLM_API_KEY", "")
    if name == "sglang":
        key = json.loads(Path(asked.config).read_text())["api-key"]
    if told := os.environ.get("STAND_IN_TOLD"):
        names = ("CUDA_VISIBLE_DEVICES", "VLLM_CPU_OMP_THREADS_BIND")
        given = {variable: os.environ.get(variable) for variable in names}
        Path(told).write_text(json.dumps({"argv": sys.argv, "pid": os.getpid(), "environment": given}))
    print("loading weights", flush=True)
    if os.environ.get("STAND_IN_DIES"):
        print("OSError: the weights are broken", file=sys.stderr, flush=True)
        return 3

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/health":
                self._say(503 if os.environ.get("STAND_IN_HANGS") else 200, {})
            elif self.path in ("/version", "/server_info"):
                self._say(200, {"version": VERSION})
            elif self.path == "/props":
                self._say(200, {"build_info": VERSION})
            elif self._knows():
                self._say(200, {"object": "list", "data": [{"id": served, "object": "model"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            embeds = bool(os.environ.get("STAND_IN_EMBEDS"))
            if not self._knows():
                return
            if body["model"] != served:
                self._say(404, {"error": {"message": f"The model {body['model']} does not exist."}})
            elif (self.path == "/v1/embeddings") is not embeds:
                self._say(404, {"error": {"message": "this model does not support that"}})
            else:
                self._say(200, {"choices": [{"text": "x"}], "usage": {"prompt_tokens": 2, "completion_tokens": 4}})

        def _knows(self) -> bool:
            if self.headers["Authorization"] == f"Bearer {key}":
                return True
            self._say(401, {"error": "Unauthorized"})
            return False

        def _say(self, status: int, body: object) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    print("Application startup complete.", flush=True)
    ThreadingHTTPServer((asked.host, asked.port), Handler).serve_forever()
    return 0
