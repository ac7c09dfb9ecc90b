"""relu: the operator, and a file for each algorithm."""

from kernels.operator import Entry
from kernels.relu.device import DeviceRelu
from kernels.relu.direct import Direct
from kernels.relu.loops import Loops
from kernels.relu.masks import Masks
from kernels.relu.operator import Relu
from kernels.relu.reference import Reference

RELU = Entry(
    Relu,
    {
        "loops": Loops(),
        "numpy": Masks(),
        "numba": Direct(threaded=False),
        "numba_threads": Direct(threaded=True),
        "torch": Reference(),
    },
    DeviceRelu,
)
