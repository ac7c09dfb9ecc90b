"""log_softmax: the operator; the algorithms are softmax's, which do both."""

from kernels.log_softmax.device import DeviceLogSoftmax
from kernels.log_softmax.operator import LogSoftmax
from kernels.log_softmax.triton import TritonLogSoftmax
from kernels.operator import Entry
from kernels.softmax.direct import Direct
from kernels.softmax.loops import Loops
from kernels.softmax.reductions import Reductions
from kernels.softmax.reference import Reference

LOG_SOFTMAX = Entry(
    LogSoftmax,
    {
        "loops": Loops(log=True),
        "numpy": Reductions(log=True),
        "numba": Direct(log=True, threaded=False),
        "numba_threads": Direct(log=True, threaded=True),
        "torch": Reference(log=True),
    },
    DeviceLogSoftmax,
    on_triton=TritonLogSoftmax,
)
