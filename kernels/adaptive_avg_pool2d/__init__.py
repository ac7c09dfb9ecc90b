"""adaptive_avg_pool2d: the operator; averaging over any grid of windows is avg_pool2d's affair."""

from kernels.adaptive_avg_pool2d.device import DeviceAdaptiveAvgPool2d
from kernels.adaptive_avg_pool2d.operator import AdaptiveAvgPool2d
from kernels.adaptive_avg_pool2d.reference import Reference
from kernels.avg_pool2d.direct import Direct
from kernels.avg_pool2d.loops import Loops
from kernels.avg_pool2d.sums import Sums
from kernels.operator import Entry

ADAPTIVE_AVG_POOL2D = Entry(
    AdaptiveAvgPool2d,
    {
        "loops": Loops(),
        "numpy": Sums(),
        "numba": Direct(threaded=False),
        "numba_threads": Direct(threaded=True),
        "torch": Reference(),
    },
    DeviceAdaptiveAvgPool2d,
)
