"""conv2d: the operator, and a file for each algorithm."""

from kernels.conv2d.loops import Loops
from kernels.conv2d.operator import Conv2d
from kernels.operator import Entry

CONV2D = Entry(
    Conv2d,
    {
        "loops": Loops(),
    },
)
