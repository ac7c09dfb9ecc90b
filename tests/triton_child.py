"""Triton's kernels on arrays: in its interpreter, in a process of its own, or on a CUDA device.

Triton decides when it is imported whether it interprets, and a process that does cannot compile.
Every tensor lies between canaries: what is read there shows as NaN, what is written there is told.
"""

from __future__ import annotations

import functools
import os
import warnings
from contextlib import contextmanager

import numpy as np

MARGIN = 64


def start():
    """In the new process, before anything imports triton."""
    os.environ["TRITON_INTERPRET"] = "1"
    # NumPy says so of infinities that are meant, and of rows that hold nothing but NaN.
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    import torch
    from triton.runtime import interpreter

    torch.set_num_threads(1)
    builder = interpreter.InterpreterBuilder
    builder.create_dot = _dot
    builder.create_fp_trunc = functools.partialmethod(_shortened, builder.create_fp_trunc)


class Interpreter:
    """In `TritonDevice`'s place."""

    kind = "cpu"

    def unavailable_reason(self):
        return None

    def launch(self, kernel, programs, *arguments, warps=4, stages=1, **constants):
        assert warps in (1, 2, 4, 8)
        assert stages >= 1
        kernel[(programs,)](*arguments, **constants)


def called(on_cuda, operator, implementation, tile, arguments, keywords):
    """By the operator's name. Arrays come `packed`, and so does the result.

    `tile`: the only one for products, or None.
    """
    from kernels.gpu.implementations import IMPLEMENTATIONS
    from kernels.gpu.triton import TritonDevice
    from kernels.registry import OPERATORS

    device = TritonDevice() if on_cuda else Interpreter()
    mode = IMPLEMENTATIONS[implementation].mode
    made = OPERATORS[operator].on_triton(device, mode)
    arguments = [_given(value, device.kind) for value in arguments]
    with _tiles(mode, tile), _guarded():
        return packed(made.forward(*arguments, **keywords).cpu().numpy())


def packed(value):
    """An array as one that pickle keeps in its order of memory; others as they are."""
    if not isinstance(value, np.ndarray):
        return value
    order = np.argsort([-stride for stride in value.strides], kind="stable")
    return value.transpose(order).copy(), order


def unpacked(value):
    """What was `packed`."""
    if not isinstance(value, tuple):
        return value
    array, order = value
    return array.transpose(np.argsort(order))


@contextmanager
def _tiles(mode, tile):
    from kernels.gpu import triton_tiles

    known = triton_tiles.TILES
    if tile is not None:
        triton_tiles.TILES = {mode: (triton_tiles.Tile(*tile, warps=4, stages=3),)}
    triton_tiles.tile.cache_clear()
    try:
        yield
    finally:
        triton_tiles.TILES = known
        triton_tiles.tile.cache_clear()


@contextmanager
def _guarded():
    """Room for results lies between canaries, which are still there afterwards."""
    import torch

    plain, made = torch.Tensor.new_empty, []

    def new_empty(tensor, shape, **options):
        if options:  # Triton, for a view of what it is given
            return plain(tensor, shape, **options)
        made.append(_between(shape, torch.float32, tensor.device))
        return made[-1][1]

    torch.Tensor.new_empty = new_empty
    try:
        yield
    finally:
        torch.Tensor.new_empty = plain
    for room, _ in made:
        outside = torch.cat([room[:MARGIN], room[-MARGIN:]])
        assert outside.isnan().all(), "something was written outside of a result"


def _given(value, kind):
    """An array as a tensor between canaries, in the same order of memory."""
    import torch

    value = unpacked(value)
    if not isinstance(value, np.ndarray):
        return value
    tensor = torch.from_numpy(value)
    room, _ = _between(value.shape, tensor.dtype, kind)
    return room.as_strided(tensor.shape, tensor.stride(), MARGIN).copy_(tensor)


def _between(shape, dtype, device):
    """(all of the storage, what is in its middle)."""
    import torch

    size = int(np.prod(shape))
    canary = float("nan") if dtype.is_floating_point else 77
    room = torch.full((size + 2 * MARGIN,), canary, dtype=dtype, device=device)
    return room, room[MARGIN : MARGIN + size].reshape(shape)


def _shortened(builder, plain, value, dtype):
    """float32 rounded to bfloat16 as the hardware does, to the nearest, ties to even.

    The interpreter's own cuts it off.
    """
    import torch
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    if dtype.scalar != tl.bfloat16 or value.data.dtype != np.float32:
        return plain(builder, value, dtype)
    rounded = torch.from_numpy(np.ascontiguousarray(value.data)).bfloat16()
    return TensorHandle(rounded.view(torch.int16).numpy().view(np.uint16), tl.bfloat16)


def _dot(_, a, b, total, input_precision, __):
    """A sum in float32 of the operands as tensor cores take them.

    The interpreter's own takes bfloat16 for whole numbers, and for TF32 leaves float32 as it is, of
    which the hardware may read the first 11 significant bits and leave the rest.
    """
    from triton._C.libtriton import ir
    from triton.runtime.interpreter import TensorHandle

    tf32 = input_precision == ir.INPUT_PRECISION.TF32
    product = np.matmul(_as_taken(a.data, tf32), _as_taken(b.data, tf32))
    return TensorHandle(product + total.data, total.dtype.scalar)


def _as_taken(data, tf32):
    if data.dtype == np.uint16:  # how the interpreter keeps bfloat16
        return (data.astype(np.uint32) << np.uint32(16)).view(np.float32)
    assert data.dtype == np.float32
    return (data.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32) if tf32 else data
