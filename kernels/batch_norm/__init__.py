"""batch_norm: the operator, and a file for each algorithm."""

from kernels.batch_norm.device import DeviceBatchNorm
from kernels.batch_norm.direct import Direct
from kernels.batch_norm.loops import Loops
from kernels.batch_norm.operator import BatchNorm
from kernels.batch_norm.reductions import Reductions
from kernels.batch_norm.reference import Reference
from kernels.operator import Entry

BATCH_NORM = Entry(
    BatchNorm,
    {
        "loops": Loops(),
        "numpy": Reductions(),
        "numba": Direct(threaded=False),
        "numba_threads": Direct(threaded=True),
        "torch": Reference(),
    },
    DeviceBatchNorm,
)
