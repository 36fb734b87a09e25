"""Starts a module as the workers of a MultiWorkerMirroredStrategy, and awaits them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np


def run_workers(module: str, folder: Path, count: int = 2) -> list[dict[str, Any]]:
    """What each worker wrote to the file that its command line names."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    outputs = [folder / f"{index}.npz" for index in range(count)]
    workers = []
    for index, output in enumerate(outputs):
        config = {
            "cluster": {"worker": addresses},
            "task": {"type": "worker", "index": index},
        }
        environment = {
            **os.environ,
            "TF_CONFIG": json.dumps(config),
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        command = [sys.executable, "-m", module, str(output)]
        workers.append(
            subprocess.Popen(
                command, env=environment, stderr=subprocess.PIPE, text=True, cwd=folder
            )
        )
    try:
        for worker in workers:
            _, messages = worker.communicate(timeout=120)
            assert worker.returncode == 0, messages
    finally:
        for worker in workers:
            worker.kill()
    return [dict(np.load(output)) for output in outputs]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
