"""linear: the operator, and a file for each algorithm."""

from kernels.linear.device import DeviceLinear
from kernels.linear.direct import Direct
from kernels.linear.loops import Loops
from kernels.linear.operator import Linear
from kernels.linear.products import Products
from kernels.linear.reference import Reference
from kernels.linear.triton import TritonLinear
from kernels.operator import Entry

LINEAR = Entry(
    Linear,
    {
        "loops": Loops(),
        "numpy": Products(),
        "numba": Direct(threaded=False),
        "numba_threads": Direct(threaded=True),
        "torch": Reference(),
    },
    DeviceLinear,
    on_triton=TritonLinear,
)
