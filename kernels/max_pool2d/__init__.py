"""max_pool2d: the operator, and a file for each algorithm."""

from kernels.max_pool2d.device import DeviceMaxPool2d
from kernels.max_pool2d.direct import Direct
from kernels.max_pool2d.loops import Loops
from kernels.max_pool2d.operator import MaxPool2d
from kernels.max_pool2d.reference import Reference
from kernels.max_pool2d.windows import Windows
from kernels.operator import Entry

MAX_POOL2D = Entry(
    MaxPool2d,
    {
        "loops": Loops(),
        "numpy": Windows(),
        "numba": Direct(threaded=False),
        "numba_threads": Direct(threaded=True),
        "torch": Reference(),
    },
    DeviceMaxPool2d,
)
