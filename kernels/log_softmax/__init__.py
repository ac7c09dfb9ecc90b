"""log_softmax: the operator, and a file for each algorithm."""

from kernels.log_softmax.loops import Loops
from kernels.log_softmax.operator import LogSoftmax
from kernels.log_softmax.reductions import Reductions
from kernels.log_softmax.reference import Reference
from kernels.operator import Entry
from kernels.softmax.direct import Direct

LOG_SOFTMAX = Entry(
    LogSoftmax,
    {
        "loops": Loops(),
        "numpy": Reductions(),
        "numba": Direct(log=True, threaded=False),
        "numba_threads": Direct(log=True, threaded=True),
        "torch": Reference(),
    },
)
