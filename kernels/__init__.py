"""CNN operators by hand, sequential and parallel, each equal to PyTorch.

    conv = kernels.get("conv2d", "numba_threads", threads=2)
    y = conv.forward(x, weight, bias, padding=1)            # torch.nn.functional.conv2d's arguments
    grad_x, grad_weight, grad_bias = conv.backward(grad_y, x, weight, bias, padding=1)

NumPy arrays in and out, float32 or float64, in contiguous or channels-last memory.

    conv = kernels.get("conv2d", "cuda")
    y = conv.forward(x, weight, bias, padding=1)            # tensors on a CUDA device

Contiguous float32 tensors in and out, for the implementations that `device_names` lists.
"""

from kernels.registry import device_names, get, names, operators

__all__ = ["device_names", "get", "names", "operators"]
