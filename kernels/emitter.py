"""LLVM code for vectors of one width, as the tiles' arithmetic needs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

INDEX = ir.IntType(64)
LANE = ir.IntType(32)


class Emitter:
    """Emits through llvmlite's builder; `kind` is the tile's class, `dtype` Numba's."""

    def __init__(self, context: Any, builder: Any, kind: Any, dtype: Any) -> None:
        self.builder = builder
        self.kind = kind
        self._context = context
        self._bytes = dtype.bitwidth // 8
        self.lanes = kind.width // self._bytes
        self._scalar = context.get_value_type(dtype)
        self._vector = ir.VectorType(self._scalar, self.lanes)

    def data(self, kind: Any, value: Any) -> Any:
        """The address of an array argument's first element."""
        return self._context.make_array(kind)(self._context, self.builder, value).data

    def size(self, kind: Any, value: Any) -> Any:
        """The number of an array argument's elements."""
        return self._context.make_array(kind)(self._context, self.builder, value).nitems

    def at(self, pointer: Any, index: Any) -> Any:
        """The address `index` numbers behind `pointer`."""
        return self._behind(pointer, index, self._scalar)

    def at_index(self, pointer: Any, index: Any) -> Any:
        """The address `index` integers behind `pointer`."""
        return self._behind(pointer, index, INDEX)

    def load(self, pointer: Any) -> Any:
        """A vector from any address."""
        return self.builder.load(pointer, align=self._bytes, typ=self._vector)

    def load_scalar(self, pointer: Any) -> Any:
        """One number."""
        return self.builder.load(pointer, align=self._bytes, typ=self._scalar)

    def load_index(self, pointer: Any) -> Any:
        """One integer."""
        return self.builder.load(pointer, typ=INDEX)

    def store(self, vector: Any, pointer: Any) -> None:
        """A vector to any address."""
        self.builder.store(vector, pointer, align=self._bytes)

    def load_some(self, pointer: Any, mask: Any = None) -> Any:
        """Those lanes of a vector that `mask` has, the others 0; None for all of them."""
        if mask is None:
            return self.load(pointer)
        kinds = [ir.PointerType(), LANE, mask.type, self._vector]
        name = f"llvm.masked.load.v{self.lanes}f{self._bytes * 8}.p0"
        zeros = ir.Constant(self._vector, [0.0] * self.lanes)
        function = self._function(name, self._vector, kinds)
        return self.builder.call(function, [pointer, LANE(self._bytes), mask, zeros])

    def store_some(self, vector: Any, pointer: Any, mask: Any = None) -> None:
        """Those lanes of a vector that `mask` has; None for all of them."""
        if mask is None:
            self.store(vector, pointer)
            return
        kinds = [self._vector, ir.PointerType(), LANE, mask.type]
        name = f"llvm.masked.store.v{self.lanes}f{self._bytes * 8}.p0"
        function = self._function(name, ir.VoidType(), kinds)
        self.builder.call(function, [vector, pointer, LANE(self._bytes), mask])

    def prefetch_for_write(self, pointer: Any) -> None:
        """Ask for a cache line that will be written."""
        kinds = [ir.PointerType(), LANE, LANE, LANE]
        function = self._function("llvm.prefetch.p0", ir.VoidType(), kinds)
        self.builder.call(function, [pointer, LANE(1), LANE(3), LANE(1)])

    def first_lanes(self, count: Any) -> Any:
        """A mask of the first `count` lanes: none where it is negative, at most all."""
        numbers = ir.VectorType(INDEX, self.lanes)
        steps = ir.Constant(numbers, list(range(self.lanes)))
        return self.builder.icmp_signed("<", steps, self._splat(count, numbers))

    def spread(self, number: Any) -> Any:
        """A vector of one number."""
        return self._splat(number, self._vector)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a b + c."""
        if not self.kind.fused:
            return self.builder.fadd(self.builder.fmul(a, b), c)
        name = f"llvm.fma.v{self.lanes}f{self._bytes * 8}"
        return self.builder.call(self._function(name, self._vector, [self._vector] * 3), [a, b, c])

    def at_least(self, vector: Any, floor: Any) -> Any:
        """The greater of both, lane by lane; NaN stays."""
        below = self.builder.fcmp_ordered("<", vector, floor)
        return self.builder.select(below, floor, vector)

    def transposed(self, rows: list[Any]) -> list[Any]:
        """`lanes` vectors -> as many, the columns of those.

        Riffling the first half of the rows with the second, log2(lanes) times, is a transposition:
        each time it moves one bit of the row's number into the column's.
        """
        half = self.lanes // 2
        low = [lane + part * self.lanes for lane in range(half) for part in (0, 1)]
        high = [lane + half for lane in low]
        masks = [ir.Constant(ir.VectorType(LANE, self.lanes), order) for order in (low, high)]
        for _ in range(half.bit_length()):
            rows = [
                self.builder.shuffle_vector(rows[i], rows[i + half], mask)
                for i in range(half)
                for mask in masks
            ]
        return rows

    def variable(self, value: Any) -> Any:
        """Room for a value that changes in loops; LLVM keeps it in a register."""
        with self.builder.goto_entry_block():
            place = self.builder.alloca(value.type)
        self.builder.store(value, place)
        return place

    @contextmanager
    def loop(self, begin: Any, end: Any, *, plain: bool = False) -> Iterator[Any]:
        """`with` statement around the body of a loop over begin <= i < end; yields i.

        In a `plain` one the body's addresses stay as they are written, base and index: LLVM would
        count from 0 and move every base by `begin` beforehand, which a short loop does not earn.
        """
        builder = self.builder
        before = builder.block
        body = builder.append_basic_block("body")
        after = builder.append_basic_block("after")
        builder.cbranch(builder.icmp_signed("<", begin, end), body, after)
        builder.position_at_end(body)
        i = builder.phi(INDEX)
        i.add_incoming(begin, before)
        yield i
        following = builder.add(i, INDEX(1))
        if plain:
            following = self._hidden(following)
        i.add_incoming(following, builder.block)
        builder.cbranch(builder.icmp_signed("<", following, end), body, after)
        builder.position_at_end(after)

    def _hidden(self, number: Any) -> Any:
        """The number, by an assembly of no instruction: LLVM does not see where it comes from."""
        kind = ir.FunctionType(INDEX, [INDEX])
        return self.builder.asm(kind, "", "=r,0", [number], side_effect=False)

    def _behind(self, pointer: Any, index: Any, kind: Any) -> Any:
        index = INDEX(index) if isinstance(index, int) else index
        place = self.builder.gep(pointer, [index], inbounds=True, source_etype=kind)
        place.type = ir.PointerType()  # llvmlite would keep an array's typed pointer
        return place

    def _splat(self, number: Any, kind: Any) -> Any:
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), number, LANE(0))
        lanes = ir.Constant(ir.VectorType(LANE, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(one, one, lanes)

    def _function(self, name: str, result: Any, kinds: list[Any]) -> Any:
        module = self.builder.module
        known = module.globals.get(name)
        return known or ir.Function(module, ir.FunctionType(result, kinds), name)
