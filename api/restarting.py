"""A restart in place: at SIGUSR2 the service stops as at SIGTERM and becomes its own successor (`exec`, the
same process id and arguments, the code as it is then on the disk).

The listening socket stays open all the while, handed over as a supervisor would: who connects meanwhile waits
instead of being refused, so published stream clients, which warn of a refused connection, say nothing.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any, Protocol

HANDED_OVER = 3  # the descriptor of a socket that is handed over


class Stoppable(Protocol):
    should_exit: bool


class Restarting:
    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self._kept: int | None = None

    def install(self, server: Stoppable) -> None:
        """Listen to the signal, where the platform has it. In the main thread."""

        def restart(*_: Any) -> None:
            if self._kept is None and not server.should_exit:
                self._kept = os.dup(self._listening.fileno())  # the server closes its own
                server.should_exit = True

        if hasattr(signal, "SIGUSR2"):
            signal.signal(signal.SIGUSR2, restart)

    def carry_out(self) -> None:
        """Once the service has stopped: become the next one, where that was asked for."""
        if self._kept is None:
            return
        os.dup2(self._kept, HANDED_OVER)
        os.set_inheritable(HANDED_OVER, True)
        environment = os.environ | {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
        sys.stdout.flush()
        arguments = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, arguments, environment)  # noqa: S606 (as this process was started)
