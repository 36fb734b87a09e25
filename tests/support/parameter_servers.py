"""Clusters of a ParameterServerStrategy: servers in one process, or each in its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import tensorflow as tf

from tests.support.workers import free_ports

Addresses = dict[str, list[str]]  # of a cluster's tasks, by their jobs

SERVE = "tests.support.server_process"


def addresses(workers: int) -> Addresses:
    """A cluster on this machine: a coordinator, one parameter server and workers."""
    ports = iter(free_ports(workers + 2))

    def of(count: int) -> list[str]:
        return [f"127.0.0.1:{next(ports)}" for _ in range(count)]

    return {"chief": of(1), "ps": of(1), "worker": of(workers)}


def serve_here(workers: int) -> Any:
    """Starts the servers in this process; the resolver of their cluster."""
    jobs = addresses(workers)
    del jobs["chief"]
    cluster = tf.train.ClusterSpec(jobs)
    # TensorFlow deadlocks where one process runs several workers on few threads.
    threads = tf.compat.v1.ConfigProto(inter_op_parallelism_threads=workers + 2)
    for job, tasks in jobs.items():
        for index in range(len(tasks)):
            tf.distribute.Server(cluster, job, index, config=threads)
    return tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, rpc_layer="grpc")


def start(
    module: str, jobs: Addresses, job: str, index: int, folder: Path, *words: str
) -> subprocess.Popen[str]:
    """Starts a module as a task of a cluster, which TF_CONFIG tells it."""
    config = {"cluster": jobs, "task": {"type": job, "index": index}}
    environment = {
        **os.environ,
        "TF_CONFIG": json.dumps(config),
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    with (folder / f"{job}{index}.log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, *words],
            env=environment,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )


class Cluster:
    """A coordinator and its servers, each in a process of its own, until the block ends."""

    def __init__(self, workers: int, folder: Path) -> None:
        self._folder = folder
        self._jobs = addresses(workers)
        self._servers: dict[tuple[str, int], subprocess.Popen[str]] = {}
        self._coordinator: subprocess.Popen[str] | None = None

    def __enter__(self) -> Cluster:
        for job in ("ps", "worker"):
            for index in range(len(self._jobs[job])):
                self._serve(job, index)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        coordinator = [] if self._coordinator is None else [self._coordinator]
        for process in [*coordinator, *self._servers.values()]:
            process.kill()
            process.communicate()

    def coordinate(self, module: str, *words: str) -> subprocess.Popen[str]:
        """Starts the coordinator."""
        self._coordinator = start(module, self._jobs, "chief", 0, self._folder, *words)
        return self._coordinator

    def restart_worker(self, index: int) -> None:
        """Kills a worker, and starts it again at the same address."""
        worker = self._servers["worker", index]
        worker.kill()
        worker.communicate()
        self._serve("worker", index)

    def messages(self) -> str:
        """What the coordinator wrote to its standard error."""
        return (self._folder / "chief0.log").read_text()

    def _serve(self, job: str, index: int) -> None:
        self._servers[job, index] = start(SERVE, self._jobs, job, index, self._folder)
