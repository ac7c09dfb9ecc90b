"""What Triton's kernels are compiled to for sm_90, without a GPU: in the launch's place."""

from __future__ import annotations

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.int64: "*i64", torch.uint8: "*u8"}


class Compiler:
    """In `TritonDevice`'s place: compiles what would be launched, for what it would be launched on.

    `compiled`: by Triton, one for each launch. Tensors count as lying on 16 bytes.
    """

    kind = "cpu"

    def __init__(self):
        self.compiled = []

    def unavailable_reason(self):
        return None

    def launch(self, kernel, programs, *arguments, warps=4, stages=1, **constants):
        assert programs >= 1
        names = [parameter.name for parameter in kernel.params]
        given = dict(zip(names, arguments, strict=False)) | constants
        assert list(given) == names, f"{kernel.__name__} takes {names}, got {list(given)}"
        signature, fixed, attributes = {}, {}, {}
        for i, parameter in enumerate(kernel.params):
            value = given[parameter.name]
            signature[parameter.name], divisible = _type(parameter, value)
            if signature[parameter.name] == "constexpr":
                fixed[(i,)] = value
            if divisible:
                attributes[(i,)] = [["tt.divisibility", 16]]
        source = ASTSource(kernel, signature, fixed, attributes)
        options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
        self.compiled.append(triton.compile(source, GPUTarget("cuda", 90, 32), options))


def _type(parameter, value):
    """What Triton takes an argument for at a launch, and whether it counts as divisible by 16."""
    if parameter.is_constexpr or value is None:
        return "constexpr", False
    if isinstance(value, torch.Tensor):
        return TYPES[value.dtype], True
    if isinstance(value, float):
        return "fp32", False
    integer = "i32" if -(2**31) <= value < 2**31 else "i64"
    if parameter.do_not_specialize:
        return integer, False
    return ("constexpr", False) if value == 1 else (integer, value % 16 == 0)
