"""How soon a Jupyter kernel answers, warm and cold: ``python -m bench.warm_kernels``

Start kernels with jupyter_client's own provisioner and with ``amllab-warm`` in turn, and measure the time from the
start to the answer to the imports of the lab. The server of the warm ones is already running: its start takes as long
as that of one cold kernel.
"""

from __future__ import annotations

import argparse
import statistics
import time

from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import KernelProvisionerFactory

PROVISIONERS = {"cold": "local-provisioner", "warm": "amllab-warm"}
IMPORTS = "import torch, torchvision, timm, matplotlib.pyplot, amllab; amllab.load_backbone"


def seconds(provisioner: str) -> float:
    """Return the seconds from the start of a kernel to its answer."""
    KernelProvisionerFactory.instance().default_provisioner_name = provisioner
    manager = KernelManager(kernel_name="python3")
    began = time.perf_counter()
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=120)
        answer = client.execute_interactive(IMPORTS, timeout=120, output_hook=lambda message: None)
        took = time.perf_counter() - began
        if answer["content"]["status"] != "ok":
            raise RuntimeError(answer["content"]["evalue"])
        return took
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernels", type=int, default=8, help="of each kind")
    arguments = parser.parse_args()
    first = {kind: seconds(provisioner) for kind, provisioner in PROVISIONERS.items()}
    pairs = [[seconds(provisioner) for provisioner in PROVISIONERS.values()] for _ in range(arguments.kernels)]
    print(f"{'kernel':6}  first (s)  median (s)  longest (s)")
    for kind, times in zip(PROVISIONERS, zip(*pairs, strict=True), strict=True):
        print(f"{kind:6}  {first[kind]:9.2f}  {statistics.median(times):10.2f}  {max(times):11.2f}")
    ratios = [cold / warm for cold, warm in pairs]
    print(
        f"a warm kernel answers {statistics.median(ratios):.1f} times as soon ({min(ratios):.1f} to {max(ratios):.1f})"
    )


if __name__ == "__main__":
    main()
