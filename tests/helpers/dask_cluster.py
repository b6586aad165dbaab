"""A real Dask cluster on this machine, whose processes can be killed and stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# seconds of silence after which a worker is considered lost: for tests of exactly that, and for all others
SILENT, BUSY = "8s", "120s"
SETTINGS = {
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "4s",
    "DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT": "2s",
    "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    "OMP_NUM_THREADS": "1",
}


@dataclass
class Cluster:
    """A scheduler and its workers, as processes of the command ``dask``."""

    folder: Path
    worker_ttl: str
    port: int = 0
    scheduler: Any = None
    workers: list[Any] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def start_scheduler(self) -> None:
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        self.scheduler = self._dask(
            "scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--no-dashboard",
            "--scheduler-file",
            str(file),
        )
        while not file.is_file():
            assert self.scheduler.poll() is None, (self.folder / "scheduler.log").read_text()
            time.sleep(0.05)
        self.port = int(json.loads(file.read_text())["address"].rsplit(":", 1)[1])

    def start_worker(self) -> None:
        self.workers.append(
            self._dask(
                "worker",
                self.address,
                "--nthreads",
                "1",
                "--no-nanny",
                "--preload",
                "autograder.scheduling.dask_pool",
                "--no-dashboard",
                "--local-directory",
                str(self.folder),
            )
        )

    def _dask(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "dask", *arguments]
        environment = {**os.environ, **SETTINGS, "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": self.worker_ttl}
        with (self.folder / f"{arguments[0]}.log").open("ab") as log:
            return subprocess.Popen(command, env=environment, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT)

    def stop(self) -> None:
        for process in [*self.workers, self.scheduler]:
            process.kill()
            process.wait()
