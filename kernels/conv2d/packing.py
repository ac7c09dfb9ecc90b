"""Weights and input as the tiles read them.

Weights: panels of neighbouring columns (filters, or channels for the input's gradient), a row for
each product of a sum. Input: a block's rows with the zeros around them.
"""

from __future__ import annotations

from numba import njit

from kernels.tiles import copy_numbers, copy_panel, transpose_block


@njit(cache=True, nogil=True)
def pack(tile, g, weight, rows, group, panel, target, at):
    """One panel of one group into `target` from `at`."""
    first = panel * g.panel
    count = min(g.panel, g.filters - first)
    if g.transposed:
        _pack_channels(tile, g, weight, rows, group, first, count, target, at)
    else:
        _pack_filters(tile, g, weight, rows, group * g.filters + first, count, target, at)


@njit(cache=True, nogil=True)
def _pack_filters(tile, g, weight, rows, first, count, target, at):
    """From filters of `weight`, flat [K, taps]; `rows[tap]` is where a product goes."""
    for column in range(0, count, g.lanes):
        here = min(g.lanes, count - column)
        begin = (first + column) * g.taps
        whole = g.taps - g.taps % g.lanes if here == g.lanes else 0
        for tap in range(0, whole, g.lanes):
            transpose_block(tile, weight, begin + tap, g.taps, target, at + column, rows, tap)
        for tap in range(whole, g.taps):
            place = at + column + rows[tap]
            for i in range(here):
                target[place + i] = weight[begin + i * g.taps + tap]
            target[place + here : place + g.lanes] = 0


@njit(cache=True, nogil=True)
def _pack_channels(tile, g, weight, taps, group, first, count, target, at):
    """From channels of `weight`, flat [K, R, S, C]; `taps[t]` is where tap t is in a filter."""
    filters = g.taps // len(taps)
    step = len(weight) // (g.groups * filters)
    for t in range(len(taps)):
        begin = group * filters * step + taps[t] + first
        for _ in range(filters):
            if count == g.panel:
                copy_panel(tile, weight, begin, target, at)
            else:
                copy_numbers(weight, begin, target, at, count)
                target[at + count : at + g.panel] = 0
            begin += step
            at += g.panel


@njit(cache=True, nogil=True)
def copy_block(g, x, block, slab, slabs, target, at):
    """One of `slabs` parts of a block's input, with zeros around it, into `target` from `at`."""
    image, images, row, count = block[:4]
    high = g.rows + (count - 1) * g.stride
    length = g.span * g.depth
    begin = min(max(0, -g.left), g.span)
    end = max(begin, min(g.span, g.width - g.left))
    for number in range(images * high * slab // slabs, images * high * (slab + 1) // slabs):
        here = at + number * length
        line = row * g.stride + g.top + number % high
        if not 0 <= line < g.height:
            target[here : here + length] = 0
            continue
        target[here : here + begin * g.depth] = 0
        target[here + end * g.depth : here + length] = 0
        here += begin * g.depth
        there = ((image + number // high) * g.height + line) * g.width + g.left + begin
        there = there * g.channels + block[5] * g.depth
        if g.depth == g.channels:
            copy_numbers(x, there, target, here, (end - begin) * g.depth)
        else:
            for _ in range(begin, end):
                copy_numbers(x, there, target, here, g.depth)
                here += g.depth
                there += g.channels
