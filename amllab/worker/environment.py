"""Environment variables of every process that runs a notebook's cells: in grading, and in the preflight."""

from amllab.lab import Lab

SETTINGS = {
    # waiting threads must not spin: on a busy machine, training would otherwise take many times as long
    "OMP_WAIT_POLICY": "PASSIVE",
    # sums do not depend on the number of processors; threads of small models also wait for each other longer than they
    # compute
    "OMP_NUM_THREADS": "1",
    # OpenBLAS starts its threads on import, and a fork does not copy threads
    "OPENBLAS_NUM_THREADS": "1",
    "AMLLAB_PROGRESS": "0",
    "HF_HUB_OFFLINE": "1",
    "PYTHONWARNINGS": "ignore",
    "CUDA_VISIBLE_DEVICES": "",
}
# further variables that belong to the machine, or that grading and preflight set themselves
MACHINE = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "IPYTHONDIR", "MPLCONFIGDIR", "AMLLAB_PREFLIGHT", "AMLLAB_LABS"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONHOME", "PYTHONPATH"),
)


def variables_of(lab: Lab) -> dict[str, str]:
    """Return the variables that a lab declares, and those of all labs, which it cannot change."""
    return {name: value for name, value in lab.environment.items() if name not in MACHINE} | SETTINGS
