"""What Triton's kernels for products share: the order of the tiles, and a step of the sum."""

import triton
import triton.language as tl


@triton.jit
def tile_of(program, tiles_down, tiles_across, band: tl.constexpr):
    """(down, across) of a program's tile, in bands of `band` tiles down.

    Programs that run at the same time then share rows and columns of the operands in the cache:
    of a square of tiles rather than of one long row.
    """
    per_band = band * tiles_across
    first = program // per_band * band
    size = tl.minimum(tiles_down - first, band)
    place = program % per_band
    return first + place % size, place // size


@triton.jit
def add_product(left, right, total, mode: tl.constexpr):
    """total [M, N] + left [M, K] times right [K, N]; `mode` as in `kernels.gpu.triton`."""
    if mode == "bf16":
        total = tl.dot(left.to(tl.bfloat16), right.to(tl.bfloat16), total)
    else:
        total = tl.dot(left, right, total, input_precision=mode)
    return total
