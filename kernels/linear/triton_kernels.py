"""linear as a tiled matrix product: input [rows, depth] times weight [columns, depth] transposed.

A program computes a tile of rows and columns, in steps along depth, the axis along which both
operands lie in memory; the loads of the next steps are on their way meanwhile.
"""

import triton
import triton.language as tl

from kernels.gpu.triton_products import add_product, tile_of


@triton.jit(do_not_specialize=["rows"])
def linear(
    x,  # [rows, depth]
    weight,  # [columns, depth]
    bias,  # [columns]
    y,  # [rows, columns]
    rows,
    columns,
    depth,
    has_bias: tl.constexpr,
    mode: tl.constexpr,
    block_rows: tl.constexpr,
    block_columns: tl.constexpr,
    block_depth: tl.constexpr,
):
    """A tile of rows and columns, in all its depth."""
    tiles_down = tl.cdiv(rows, block_rows)
    tiles_across = tl.cdiv(columns, block_columns)
    down, across = tile_of(tl.program_id(0), tiles_down, tiles_across, 8)
    row = (down * block_rows + tl.arange(0, block_rows))[:, None]
    column = (across * block_columns + tl.arange(0, block_columns))[None, :]
    total = tl.zeros((block_rows, block_columns), tl.float32)
    for start in range(0, depth, block_depth):
        k = start + tl.arange(0, block_depth)
        kept = (row < rows) & (k < depth)[None, :]
        left = tl.load(x + row * depth + k[None, :], mask=kept, other=0.0)
        kept = (column < columns) & (k < depth)[:, None]
        right = tl.load(weight + column * depth + k[:, None], mask=kept, other=0.0)
        total = add_product(left, right, total, mode)
    if has_bias:
        total += tl.load(bias + column, mask=column < columns, other=0.0)
    tl.store(y + row * columns + column, total, mask=(row < rows) & (column < columns))
