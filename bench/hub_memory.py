"""Memory of a hub, and how many students a machine carries: ``python -m bench.hub_memory``

Students with accounts of their own start their servers and open lab 1. Some stay idle after its first cells, the others
fine-tune net12 on the lab's images. The figures are proportional set sizes, which count shared pages once.
``--provisioner local-provisioner`` measures ordinary kernels instead of warm ones.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import nbformat
import psutil
from jupyter_client.blocking.client import BlockingKernelClient

from tests.helpers.hub import GRADER, Hub, hub, missing
from tests.helpers.hub_walk import ASSIGNMENT, EXERCISES, NOTEBOOK, ROOT

TOKEN = "token-of-the-measurement"
# an account of the hub that may start servers
SETTINGS = f"""
c.Spawner.environment["JUPYTER_DEFAULT_PROVISIONER_NAME"] = "{{kind}}"
c.JupyterHub.services.append({{"name": "bench", "api_token": "{TOKEN}"}})
scopes = ["admin:users", "admin:servers", "access:servers"]
c.JupyterHub.load_roles.append({{"name": "bench", "services": ["bench"], "scopes": scopes}})
"""
IDLE = "train_loader, val_loader = reptile_loaders()\nnext(iter(train_loader))"
TRAINING = """model = build_transfer_model("net12", 5, 12)
train_with_early_stopping(model, *reptile_loaders(), max_epochs=1000, patience=1000)"""
START_SECONDS, SETTLE_SECONDS = 120.0, 60.0
RESERVED = 4.0  # GB for the operating system and for grading
GIGABYTES = 64.0


def ask(site: Hub, method: str, path: str, body: object = None) -> Any:
    """Send a request to the hub or to a server, and return its answer."""
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{site.address}/{path}", data, {"Authorization": f"token {TOKEN}"}, method=method)
    try:
        with urlopen(request, timeout=120) as answer:
            text = answer.read()
    except HTTPError as error:
        raise RuntimeError(f"{method} {path}: {error.code} {error.read()[:500]!r}") from None
    return json.loads(text) if text else None


def start(site: Hub, student: str) -> BlockingKernelClient:
    """Start a student's server and a kernel, and connect to the kernel."""
    ask(site, "POST", f"hub/api/users/{student}")
    ask(site, "POST", f"hub/api/users/{student}/server")
    wait(lambda: ask(site, "GET", f"hub/api/users/{student}")["servers"].get("", {}).get("ready"))
    kernel = ask(site, "POST", f"user/{student}/api/kernels", {"name": "python3"})["id"]
    (file,) = (site.folder / "home" / student).glob(f".local/share/jupyter/runtime/kernel-{kernel}.json")
    found: list[BlockingKernelClient] = []
    wait(lambda: connected(file, found))
    return found[0]


def connected(file: Path, found: list[BlockingKernelClient]) -> bool:
    """Try to connect to a kernel, and add the client to a list if the kernel answers."""
    client = BlockingKernelClient(connection_file=str(file))
    client.load_connection_file()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=START_SECONDS)
    except RuntimeError:  # a kernel that is not ready yet is taken for dead
        client.stop_channels()
        return False
    found.append(client)
    return True


def wait(ready: Callable[[], bool]) -> None:
    until = time.monotonic() + START_SECONDS
    while not ready():
        if time.monotonic() > until:
            raise RuntimeError(f"a server or a kernel did not start in {START_SECONDS:.0f} s")
        time.sleep(0.2)


def run(client: BlockingKernelClient, code: str) -> None:
    answer = client.execute_interactive(code, timeout=300, output_hook=lambda message: None)["content"]
    if answer["status"] != "ok":
        raise RuntimeError("\n".join(answer["traceback"]))


def first_cells() -> list[str]:
    """Return the code of the solution that defines functions, and what they need."""
    wanted = ("import copy", *(f"def {exercise}(" for exercise in EXERCISES))
    cells = nbformat.read(ROOT / "solutions" / ASSIGNMENT / NOTEBOOK, 4).cells
    return [next(cell.source for cell in cells if cell.cell_type == "code" and text in cell.source) for text in wanted]


def kind(process: psutil.Process) -> str:
    command = " ".join(process.cmdline())
    if "multiprocessing.forkserver" in command or "multiprocessing.resource_tracker" in command:
        # kernels are forked from the server, and have its command line
        parent = process.parent()
        forked = parent is not None and "multiprocessing.forkserver" in " ".join(parent.cmdline())
        return "kernel" if forked else "fork server"
    return "kernel" if "ipykernel" in command else "server"


def measure(site: Hub, students: Iterable[str]) -> dict[str, dict[str, float]]:
    """Return MB by account and kind of process; what belongs to nobody in the course is under ``hub``."""
    lines = (site.folder / "etc" / "passwd").read_text().splitlines()
    accounts = {int(line.split(":")[2]): line.split(":")[0] for line in lines}
    names = {*students, GRADER}
    found: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for process in psutil.Process(site.process).children(recursive=True):
        try:
            owner = accounts.get(process.uids().real, "")
            size = process.memory_full_info().pss / 1e6
            found[owner if owner in names else "hub"][kind(process) if owner in names else "hub"] += size
        except psutil.Error:
            continue
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle", type=int, default=10, help="students whose kernel waits")
    parser.add_argument("--training", type=int, default=5, help="students whose kernel trains")
    parser.add_argument("--provisioner", default="amllab-warm", help="of the kernels")
    arguments = parser.parse_args()
    if min(arguments.idle, arguments.training) < 1:
        parser.error("it takes at least one student of each kind")
    if why := missing():
        sys.exit(why)
    students = tuple(f"student{i:02}" for i in range(arguments.idle + arguments.training))
    settings = SETTINGS.replace("{kind}", arguments.provisioner)
    with (
        tempfile.TemporaryDirectory(prefix="hub-") as folder,
        hub(Path(folder), ASSIGNMENT, settings=settings, students=students) as site,
    ):
        alone = measure(site, students)
        base = sum(size for kinds in alone.values() for size in kinds.values())
        seconds = []
        clients = []
        for student in students:
            began = time.perf_counter()
            clients.append(start(site, student))
            for code in (*first_cells(), IDLE):
                run(clients[-1], code)
            seconds.append(time.perf_counter() - began)
        for client in clients[arguments.idle :]:
            client.execute(TRAINING)
        time.sleep(SETTLE_SECONDS)
        busy = measure(site, students)
        for client in clients:
            client.stop_channels()
    groups = {"idle": students[: arguments.idle], "training": students[arguments.idle :]}
    kinds = ("server", "fork server", "kernel")
    print(f"{arguments.provisioner}: MB for each student, {len(students)} at a time")
    print(f"{'':10}{'students':>9}" + "".join(f"{name:>13}" for name in kinds) + f"{'sum':>8}{'most':>8}")
    means = {}
    for name, members in groups.items():
        sums = [sum(busy[student].values()) for student in members]
        parts = [sum(busy[student][part] for student in members) / len(members) for part in kinds]
        means[name] = sum(parts)
        cells = "".join(f"{part:>13.0f}" for part in parts)
        print(f"{name:10}{len(members):>9}{cells}{means[name]:>8.0f}{max(sums):>8.0f}")
    print(
        f"hub, proxy and formgrader: {base:.0f} MB; a student has run the first cells after {statistics.median(seconds):.1f} s"
    )
    free = (GIGABYTES - RESERVED) * 1000 - base
    share = arguments.training / len(students)
    mixed = (1 - share) * means["idle"] + share * means["training"]
    print(
        f"{GIGABYTES:.0f} GB, of which {RESERVED:.0f} are reserved: {free / mixed:.0f} students if {share:.0%} of them train, "
        f"{free / means['training']:.0f} if all do, {free / means['idle']:.0f} if none does"
    )


if __name__ == "__main__":
    main()
