"""add: the operator, and a file for each algorithm."""

from kernels.add.device import DeviceAdd
from kernels.add.direct import Direct
from kernels.add.loops import Loops
from kernels.add.operator import Add
from kernels.add.reference import Reference
from kernels.add.ufuncs import Ufuncs
from kernels.operator import Entry

ADD = Entry(
    Add,
    {
        "loops": Loops(),
        "numpy": Ufuncs(),
        "numba": Direct(threaded=False),
        "numba_threads": Direct(threaded=True),
        "torch": Reference(),
    },
    DeviceAdd,
)
