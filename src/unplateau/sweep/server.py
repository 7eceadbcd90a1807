"""The process that runs are forked from: it has imported everything once, computed nothing, and started no thread.

``python -m unplateau.sweep.server`` reads one order a line, ``{"number": 0, "said": FILE, "job": {...}}`` for a
new process or ``{"number": 0, "signal": 15}`` for one of before, and answers ``[number, exit code]`` when one has
ended. It goes when the orders end, or the process that gave them is gone; the runs then stop by themselves.
"""

import gc
import json
import os
import select
import sys
from contextlib import suppress
from typing import Any

from unplateau.sweep import worker

LOOK_EVERY = 0.05
"""Seconds between two looks at what has ended."""


class Server:
    """Reads orders from one descriptor and writes what has ended to another."""

    def __init__(self, orders: int, answers: int, parent: int) -> None:
        self.orders, self.answers, self.parent = orders, answers, parent
        self.children: dict[int, int] = {}  # process id to number

    def serve(self) -> dict[str, Any] | None:
        """Returns in each child, with its order, and in the server when there is nothing more to come, with None."""
        unfinished = b""
        while os.getppid() == self.parent:
            if select.select([self.orders], [], [], LOOK_EVERY)[0]:
                if not (read := os.read(self.orders, 2**16)):
                    break
                *lines, unfinished = (unfinished + read).split(b"\n")
                for order in map(json.loads, lines):
                    if "signal" in order:
                        self.send(order["number"], order["signal"])
                    elif process := os.fork():
                        self.children[process] = order["number"]
                    else:
                        return order
            self.reap()
        return None

    def send(self, number: int, name: int) -> None:
        """Sends a signal, unless that process has ended: its id may be another's."""
        self.reap()
        for process, known in self.children.items():
            if known == number:
                os.kill(process, name)

    def reap(self) -> None:
        """Answers for all that have ended."""
        while self.children:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                return
            answer = [self.children.pop(process), os.waitstatus_to_exitcode(status)]
            with suppress(BrokenPipeError):  # nobody is left to hear it
                os.write(self.answers, json.dumps(answer).encode() + b"\n")


def begin(order: dict[str, Any], server: Server) -> None:
    """Makes this fork of the server a process like any other: in a session of its own, its words in a file."""
    from unplateau.train import guest  # noqa: PLC0415 (loaded already)

    os.setsid()
    os.close(server.orders)
    os.close(server.answers)
    said = os.open(order["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.close(said)
    guest.HOME = os.getpid()  # PyTorch has no threads in the server that could be missing here


def preload() -> None:
    """Imports what every run needs. None of it may start a thread or ask CUDA anything: see ``docs/decisions.md``."""
    import torch._dynamo  # noqa: F401, PLC0415 (else the first optimiser imports it)

    import unplateau.train.loop  # noqa: F401, PLC0415


def main() -> int:
    """Serves, and in each child trains. Returns the exit code."""
    parent = os.getppid()
    orders, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    preload()
    gc.freeze()  # what is there stays, and no child need look through it
    server = Server(orders, answers, parent)
    order = server.serve()
    if order is None:
        return 0
    begin(order, server)
    return worker.main(worker.Job(**order["job"]))


if __name__ == "__main__":
    sys.exit(main())
