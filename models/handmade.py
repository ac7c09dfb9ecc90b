"""A torch CNN that runs on the operators of `kernels` instead of torch's own.

The network is traced, with batch norms and relus folded into the convolutions before them
(`models.tracing`), and each remaining node becomes one step: an operator by hand (`models.layers`
says which), or a rearrangement. On the CPU a step takes NumPy arrays in channels-last memory, and
between the images that go in and the logits that come out no tensor is made; on a GPU contiguous
tensors that stay there.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn

from models.errors import InputError
from models.layers import is_in_place, step_of
from models.operators import operators_of
from models.tracing import trace


class Handmade:
    """A traced network: images [n, ...] -> what the module returns, as a torch tensor.

    It holds copies of the weights as they were when it was made, and has no gradients.
    """

    def __init__(self, module: nn.Module, implementation: str, threads: int | None) -> None:
        graph_module = trace(module)
        operators = self._operators = operators_of(implementation, threads)
        self._steps = [
            (node, step_of(node, graph_module, operators), is_in_place(node))
            for node in graph_module.graph.nodes
            if node.op not in ("placeholder", "output")
        ]
        self._input, self._output = _ends(graph_module)
        self._done_with = _last_uses(graph_module.graph)

    def __call__(self, images: Tensor) -> Tensor:
        """Run the network; `images` in the dtype of its weights, on the implementation's device.

        Raises InputError for images of another dtype or elsewhere, and what the operators raise.
        """
        values: dict[fx.Node, Any] = {self._input: self._operators.images(images)}

        def known(argument: fx.Node) -> Any:
            return values[argument]

        for node, step, in_place in self._steps:
            args = fx.node.map_arg(node.args, known)
            kwargs = fx.node.map_arg(node.kwargs, known)
            result = values[node] = step(*args, **kwargs)
            if in_place:
                _change(values, args[0], result)
            for past in self._done_with[node]:
                del values[past]
        return self._operators.result(values[self._output])


def _change(values: dict[fx.Node, Any], before: Any, after: Any) -> None:
    """Let every name of a value that was changed in place mean what it is now."""
    for node, value in values.items():
        if value is before:
            values[node] = after


def _ends(traced: fx.GraphModule) -> tuple[fx.Node, fx.Node]:
    """The one node that images come in by, and the one whose value goes out."""
    inputs = [node for node in traced.graph.nodes if node.op == "placeholder"]
    output = next(node for node in traced.graph.nodes if node.op == "output").args[0]
    if len(inputs) != 1 or not isinstance(output, fx.Node):
        raise InputError(
            f"on_kernels: the network takes {len(inputs)} inputs and returns "
            f"{type(output).__name__}; wanted one tensor in and one out"
        )
    return inputs[0], output


def _last_uses(graph: fx.Graph) -> dict[fx.Node, list[fx.Node]]:
    """By step, the values that no later step takes, so that their memory is given back."""
    last: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        for used in (*node.all_input_nodes, node):
            last[used] = node
    done: dict[fx.Node, list[fx.Node]] = {node: [] for node in graph.nodes}
    for used, node in last.items():
        if node.op != "output" and used.op != "output":
            done[node].append(used)
    return done
