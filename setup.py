"""Only what pyproject.toml cannot say: the hot path can be compiled, which halves what a request costs and more.

``HEADRACE_COMPILE=1`` asks for it, and needs mypy and a C compiler; without it everything runs as plain Python. The
modules are the same ones, type-checked as they are compiled. Structs of msgspec stay in modules of their own, as mypyc
would lose their options.
"""

import os

from setuptools import setup

COMPILED = {
    "policy": (
        "affinity counters deadlines endpoint health limiter places prediction queueing rate_limits refusal request "
        "routing terms traffic virtual_counters waiting work"
    ),
    "wire": (
        "chunked chunked_body client client_connection errors event_relay exchange limits message request_parser "
        "response_head rest server server_connection sse transfer"
    ),
    "gateway": (
        "access account app attempt auth call content_type endpoint entity flight latency live meter prompt relay "
        "replica request request_ids splice time_limits upstream_body"
    ),
    "journal": "format writer",
}
PATHS = [f"src/headrace/{package}/{name}.py" for package, names in COMPILED.items() for name in names.split()]

if os.environ.get("HEADRACE_COMPILE") == "1":
    from mypyc.build import mypycify

    # One C file: the modules call one another, and within one file such calls are direct.
    setup(ext_modules=mypycify([*PATHS, "--no-warn-unused-ignores"], opt_level="3", debug_level="0"))
else:
    setup()
