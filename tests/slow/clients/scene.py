"""What every client's script shares: the scene, as the test sets it, and how answers go back to the test."""

import json
import os
import sys

SCENE = json.loads(os.environ["MONOSCOPE_SCENE"])


def told(ask):
    """The error that a client makes of a refusal: its class, its status where it has one, and its words."""
    try:
        ask()
    except Exception as error:
        return {"error": type(error).__name__, "status": getattr(error, "status_code", None), "text": str(error)}
    return {"error": None}


def answer_with(cells, abort):
    """Do what the test wants: fill the cells, or leave in the middle of a stream."""
    if sys.argv[1] == "abort":
        abort()
        # As if it were killed: nothing is closed or waited for.
        os._exit(0)
    sys.stdout.write("\n" + json.dumps(cells()) + "\n")
