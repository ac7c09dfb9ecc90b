"""softmax: the operator, and a file for each algorithm."""

from kernels.operator import Entry
from kernels.softmax.device import DeviceSoftmax
from kernels.softmax.direct import Direct
from kernels.softmax.loops import Loops
from kernels.softmax.operator import Softmax
from kernels.softmax.reductions import Reductions
from kernels.softmax.reference import Reference
from kernels.softmax.triton import TritonSoftmax

SOFTMAX = Entry(
    Softmax,
    {
        "loops": Loops(log=False),
        "numpy": Reductions(log=False),
        "numba": Direct(log=False, threaded=False),
        "numba_threads": Direct(log=False, threaded=True),
        "torch": Reference(log=False),
    },
    DeviceSoftmax,
    on_triton=TritonSoftmax,
)
