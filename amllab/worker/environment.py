"""Environment variables of every process that runs a notebook's cells: in grading, and in the preflight."""

SETTINGS = {
    # waiting threads must not spin: on a busy machine, training would otherwise take many times as long
    "OMP_WAIT_POLICY": "PASSIVE",
    # sums do not depend on the number of processors; threads of small models also wait for each other longer than they
    # compute
    "OMP_NUM_THREADS": "1",
    # OpenBLAS starts its threads on import, and a fork does not copy threads
    "OPENBLAS_NUM_THREADS": "1",
    "AMLLAB_PROGRESS": "0",
    "AMLLAB_DATA": "drawn",
    "HF_HUB_OFFLINE": "1",
    "PYTHONWARNINGS": "ignore",
    "CUDA_VISIBLE_DEVICES": "",
}
