"""avg_pool2d: the operator, and a file for each algorithm."""

from kernels.avg_pool2d.device import DeviceAvgPool2d
from kernels.avg_pool2d.direct import Direct
from kernels.avg_pool2d.loops import Loops
from kernels.avg_pool2d.operator import AvgPool2d
from kernels.avg_pool2d.reference import Reference
from kernels.avg_pool2d.sums import Sums
from kernels.operator import Entry

AVG_POOL2D = Entry(
    AvgPool2d,
    {
        "loops": Loops(),
        "numpy": Sums(),
        "numba": Direct(threaded=False),
        "numba_threads": Direct(threaded=True),
        "torch": Reference(),
    },
    DeviceAvgPool2d,
)
