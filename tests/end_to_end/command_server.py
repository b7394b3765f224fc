"""Starts commands without the second that Python and the runtimes take to load: imports them once, forks for each.

A child differs from a process that a shell starts in nothing else: it has its own standard streams, environment, folder
and signals, and ends as Python programs end. Requests come over the socket whose number is the argument, as JSON, with
the two descriptors that become standard output and error; the answers are the child's number, and how it ended.
"""

from __future__ import annotations

import json
import os
import runpy
import socket
import sys
from typing import Any

REQUEST_BYTES = 1 << 20


def become(request: dict[str, Any], streams: list[int]) -> None:
    """Make this process one that was started as `request` says."""
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in zip((nothing, *streams), (0, 1, 2), strict=True):
        os.dup2(source, target)
        os.close(source)
    sys.argv = ["vsr", *request["arguments"]]


def serve(requests: socket.socket) -> bool:
    """Fork for every request; true in a child, false in the parent when there are no more."""
    import av  # noqa: F401
    import numpy as np  # noqa: F401
    import onnx  # noqa: F401
    import openvino  # noqa: F401

    import vsr.cli.upscale
    import vsr.job  # noqa: F401

    while True:
        message, streams, _, _ = socket.recv_fds(requests, REQUEST_BYTES, 2)
        if not message:
            return False
        child = os.fork()
        if child == 0:
            requests.close()
            become(json.loads(message), streams)
            return True
        for stream in streams:
            os.close(stream)
        requests.send(json.dumps(child).encode())
        _, status = os.waitpid(child, 0)
        requests.send(json.dumps(os.waitstatus_to_exitcode(status)).encode())


if __name__ == "__main__" and serve(socket.socket(fileno=int(sys.argv[1]))):
    runpy.run_module("vsr", run_name="__main__", alter_sys=True)
