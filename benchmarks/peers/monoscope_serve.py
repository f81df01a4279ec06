"""Our HTTP server in a process of its own; each order tells the memory that it needed since the last one."""

# ruff: noqa: E402  as for the command, this must come before torch is imported

from monoscope.core.waiting import wait_briefly

wait_briefly()

import argparse
import sys
from pathlib import Path

import torch
from orders import forget_peak
from turns import Turns, peak_bytes

from monoscope.model.transformer import load_model
from monoscope.serve.app import start_in_background
from monoscope.serve.library import Library


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("dictionary")
    parser.add_argument("model")
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--threads", type=int, required=True)
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    turns = Turns()
    library = Library(settings.run, settings.dictionary)
    library.give_model(load_model(settings.model, dtype=settings.dtype))
    address = start_in_background(settings.run, name=settings.dictionary, library=library)
    turns.say(ready=True, url=address.url)
    for _ in sys.stdin:
        turns.say(peak_bytes=peak_bytes())
        forget_peak()
    address.close()


if __name__ == "__main__":
    main()
