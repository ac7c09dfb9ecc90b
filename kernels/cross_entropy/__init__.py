"""cross_entropy: the operator, and a file for each algorithm."""

from kernels.cross_entropy.device import DeviceCrossEntropy
from kernels.cross_entropy.direct import Direct
from kernels.cross_entropy.loops import Loops
from kernels.cross_entropy.operator import CrossEntropy
from kernels.cross_entropy.reductions import Reductions
from kernels.cross_entropy.reference import Reference
from kernels.cross_entropy.triton import TritonCrossEntropy
from kernels.operator import Entry

CROSS_ENTROPY = Entry(
    CrossEntropy,
    {
        "loops": Loops(),
        "numpy": Reductions(),
        "numba": Direct(threaded=False),
        "numba_threads": Direct(threaded=True),
        "torch": Reference(),
    },
    DeviceCrossEntropy,
    on_triton=TritonCrossEntropy,
)
