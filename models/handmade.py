"""A torch CNN that runs on the operators of `kernels` instead of torch's own.

The network is traced by torch.fx, batch norms and relus are folded into the convolutions before
them, and each remaining node becomes one step on NumPy arrays in channels-last memory: an operator
by hand (`models.layers` says which), or a rearrangement. Between the images that go in and the
logits that come out no tensor is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kernels.arrays import nhwc
from models.errors import InputError, first_line
from models.layers import LAYERS, ConvolutionRelu, Operators, is_in_place, step_of

Step = Callable[..., Any]


class Handmade:
    """A traced network: images [n, ...] -> what the module returns, as a torch tensor.

    It holds copies of the weights as they were when it was made, and has no gradients.
    """

    def __init__(self, module: nn.Module, implementation: str, threads: int | None) -> None:
        graph_module = _traced(module)
        _fold(graph_module)
        operators = Operators(implementation, threads)
        self._steps = [
            (node, step_of(node, graph_module, operators), is_in_place(node))
            for node in graph_module.graph.nodes
            if node.op not in ("placeholder", "output")
        ]
        self._input, self._output = _ends(graph_module)
        self._done_with = _last_uses(graph_module.graph)

    def __call__(self, images: Tensor) -> Tensor:
        """Run the network; `images` in the dtype of its weights, on the CPU."""
        values: dict[fx.Node, Any] = {self._input: _channels_last(images)}

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
        return torch.from_numpy(values[self._output])


def _change(values: dict[fx.Node, Any], before: Any, after: Any) -> None:
    """Let every name of a value that was changed in place mean what it is now."""
    for node, value in values.items():
        if value is before:
            values[node] = after


def _traced(module: nn.Module) -> fx.GraphModule:
    if any(layer.training for layer in module.modules()):
        raise InputError(
            "on_kernels: the network is in training mode; call its eval() first: batch norm and "
            "dropout work otherwise there"
        )
    if type(module) in LAYERS:  # alone, it would be traced into
        module = nn.Sequential(module)
    try:
        return fx.symbolic_trace(module)
    # somebody else's forward, run on stand-ins for tensors, may raise anything
    except Exception as error:
        raise InputError(
            f"on_kernels: {type(module).__name__} cannot be traced ({first_line(error)}); its "
            f"forward has to be free of branches on the values of tensors"
        ) from error


def _fold(traced: fx.GraphModule) -> None:
    """Let each convolution also do the batch norm after it, and then the relu."""
    for wanted, fold in ((nn.BatchNorm2d, _with_batch_norm), (nn.ReLU, ConvolutionRelu)):
        layers = dict(traced.named_modules())
        calls = [node.target for node in traced.graph.nodes if node.op == "call_module"]
        for node in list(traced.graph.nodes):
            before = node.args[0] if node.args else None
            if not (isinstance(before, fx.Node) and node.op == before.op == "call_module"):
                continue
            after, convolution = layers[node.target], layers[before.target]
            if not (isinstance(after, wanted) and isinstance(convolution, nn.Conv2d)):
                continue
            shared = len(before.users) > 1 or calls.count(before.target) > 1
            folded = None if shared else fold(convolution, after)
            if folded is not None:
                layers[before.target] = folded
                traced.set_submodule(before.target, folded)
                node.replace_all_uses_with(before)
                traced.graph.erase_node(node)


def _with_batch_norm(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d | None:
    """One that does both; None for a norm by the batch's own statistics."""
    return fuse_conv_bn_eval(convolution, norm) if norm.track_running_stats else None


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


def _channels_last(images: Tensor) -> Any:
    array = images.detach().numpy()
    return nhwc(array).transpose(0, 3, 1, 2) if array.ndim == 4 else array
