"""conv2d as a matrix product that is never laid out: [pixels, depth] times [depth, filters].

A pixel is one of the output, in all images; depth runs over the taps of the kernel and, innermost,
over a group's channels, which is how a weight lies in channels-last memory. A program computes a
tile of pixels and filters; it gathers its operand from the image itself, and what lies beyond the
image is zero.

    channels_last   memory in which channels are neighbours: threads that are neighbours read
                    these, 16 bytes each; else they read neighbouring pixels
    few             a step of the loop reaches over several taps, so that channels and taps are told
                    apart for every element; 0 where a step stays within one tap, and what is in
                    the image is asked once for each pixel
"""

import triton
import triton.language as tl

from kernels.gpu.triton_products import add_product, tile_of

SIZES = (
    "pixels", "rows", "columns", "height", "width", "stride_down", "stride_across", "above",
    "left_of", "dilation_down", "dilation_across",
)  # fmt: skip
"""One compiled kernel serves whatever these are. Of the others it is asked whether 16 divides them,
by which neighbours are loaded at once."""


@triton.jit(do_not_specialize=SIZES)
def conv2d(
    x,  # [N, groups * channels, height, width], of two memories
    weight,  # [groups * filters, kernel_height, kernel_width, channels]
    bias,  # [groups * filters]
    y,  # [N, groups * filters, rows, columns], in memory as x
    pixels,
    rows,
    columns,
    height,
    width,
    filters,  # of one group, and so are the channels
    channels,
    stride_down,
    stride_across,
    above,  # what is padded
    left_of,
    dilation_down,
    dilation_across,
    image_step,  # from one image to the next in x
    y_image_step,
    groups: tl.constexpr,
    kernel_height: tl.constexpr,
    kernel_width: tl.constexpr,
    channels_last: tl.constexpr,
    few: tl.constexpr,
    has_bias: tl.constexpr,
    relu: tl.constexpr,
    mode: tl.constexpr,
    block_pixels: tl.constexpr,
    block_filters: tl.constexpr,
    block_depth: tl.constexpr,
):
    """A tile of pixels and filters of one group, in all its depth."""
    tiles_down = tl.cdiv(pixels, block_pixels)
    tiles_across = tl.cdiv(filters, block_filters)
    group = tl.program_id(0) // (tiles_down * tiles_across)
    down, across = tile_of(
        tl.program_id(0) % (tiles_down * tiles_across), tiles_down, tiles_across, 8
    )
    pixel = down * block_pixels + tl.arange(0, block_pixels)
    own = across * block_filters + tl.arange(0, block_filters)
    of_depth = tl.arange(0, block_depth)
    depth = kernel_height * kernel_width * channels

    # The input's memory: [channels, height, width], or [height, width, all channels].
    if channels_last:
        column_step = groups * channels
        channel_step = 1
    else:
        column_step = 1
        channel_step = height * width
    row_step = width * column_step
    image = pixel // (rows * columns)
    place = pixel % (rows * columns)
    top = place // columns * stride_down - above
    left = place % columns * stride_across - left_of
    corner = (
        image * image_step + top * row_step + left * column_step + group * channels * channel_step
    )
    there = pixel < pixels
    if channels_last:  # [pixels, depth]: the last axis is that of neighbouring threads
        top, left, corner, there = top[:, None], left[:, None], corner[:, None], there[:, None]
    else:  # [depth, pixels]
        top, left, corner, there = top[None, :], left[None, :], corner[None, :], there[None, :]

    total = tl.zeros((block_pixels, block_filters), tl.float32)
    for start in range(0, depth, block_depth):
        k = start + of_depth
        if few:
            tap = k // few
            channel = k % few
            tap = tap[None, :] if channels_last else tap[:, None]
        else:
            tap = start // channels
            channel = start % channels + of_depth
        channel = channel[None, :] if channels_last else channel[:, None]
        step_down = tap // kernel_width * dilation_down
        step_across = tap % kernel_width * dilation_across
        at_row, at_column = top + step_down, left + step_across
        inside = there & (at_row >= 0) & (at_row < height) & (at_column >= 0) & (at_column < width)
        if few:
            inside = inside & (tap < kernel_height * kernel_width)
        at = corner + step_down * row_step + step_across * column_step + channel * channel_step
        gathered = tl.load(x + at, mask=inside, other=0.0)
        if not channels_last:
            gathered = tl.trans(gathered)
        at = (group * filters + own)[None, :] * depth + k[:, None]
        factors = tl.load(
            weight + at, mask=(own < filters)[None, :] & (k < depth)[:, None], other=0.0
        )
        total = add_product(gathered, factors, total, mode)

    if has_bias:
        total += tl.load(bias + group * filters + own, mask=own < filters, other=0.0)[None, :]
    if relu:
        total = tl.where(total < 0.0, 0.0, total)  # NaN stays
    if channels_last:
        at = image * y_image_step + place * groups * filters + group * filters
        kept = (pixel < pixels)[:, None] & (own < filters)[None, :]
        tl.store(y + at[:, None] + own[None, :], total, mask=kept)
    else:
        at = image * y_image_step + place + group * filters * rows * columns
        kept = (own < filters)[:, None] & (pixel < pixels)[None, :]
        tl.store(y + at[None, :] + own[:, None] * rows * columns, tl.trans(total), mask=kept)
