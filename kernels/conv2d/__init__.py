"""conv2d: the operator, and a file for each algorithm."""

from kernels.conv2d.device import DeviceConv2d
from kernels.conv2d.direct import Direct
from kernels.conv2d.loops import Loops
from kernels.conv2d.operator import Conv2d
from kernels.conv2d.reference import Reference
from kernels.conv2d.triton import TritonConv2d
from kernels.conv2d.windows import Windows
from kernels.conv2d.winograd import Winograd
from kernels.operator import Entry

CONV2D = Entry(
    Conv2d,
    {
        "loops": Loops(),
        "numpy": Windows(),
        "numba": Direct(threaded=False),
        "numba_threads": Direct(threaded=True),
        "winograd": Winograd(),
        "torch": Reference(),
    },
    DeviceConv2d,
    on_triton=TritonConv2d,
)
