"""The other side of ``clients_programs.Program``: calls come in as JSON, one a line, and each is answered with one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any


def answer(*functions: Callable[..., Any]) -> None:
    """Until standard input ends. A function's name is what a call names; it takes and gives what JSON can say."""
    by_name = {function.__name__: function for function in functions}
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not get between the answers
    for line in sys.stdin:
        call = json.loads(line)
        try:
            told = {"result": by_name[call["function"]](**call["arguments"])}
        except Exception as error:
            told = {"raised": [kind.__name__ for kind in type(error).__mro__], "message": str(error)}
        print(json.dumps(told), file=answers, flush=True)
