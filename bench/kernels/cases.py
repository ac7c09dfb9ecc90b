"""What is computed: one operator on one shape each, from networks that people run.

    conv2d        the distinct convolutions of ResNet18 at 224 x 224, batch 1 and 8; the two of a
                  small CIFAR network, batch 32; LeNet's first one, batch 32
    gradients     of the same in training batches, for weight and input apart; no network wants its
                  images' gradient
    the others    ResNet18's layers at batch 8, and some of DenseNet121's and the small ones'

A convolution and a matrix product are counted in FLOP, two for each multiply-add of the definition,
also where an algorithm needs fewer. All else is bound by memory and counted in bytes: each array
that goes in or comes out once, however often it is passed over.

Pure data: what reads a saved run needs neither NumPy nor torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

FLOAT, LABEL = 4, 8
"""Bytes of a float32 and of an int64."""


@dataclass(frozen=True)
class Case:
    """One operator on one shape."""

    name: str
    """A word, for test ids: conv2d_resnet18_layer1_b8."""
    family: str
    """What targets are set for: the operator's name, and which of its gradients or modes."""
    operator: str
    """The registry's name."""
    title: str
    """What stands above table and picture: conv2d 64->64 3x3 at 56x56, batch 8."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of the arguments that are arrays, by torch's names."""
    output: tuple[int, ...]
    arguments: Mapping[str, object] = field(default_factory=dict)
    """The other ones."""
    gradient: str | None = None
    """The argument whose gradient is computed; None for the operator itself."""

    @property
    def unit(self) -> str:
        """In what the work is counted."""
        return "FLOP" if "weight" in self.shapes and self.operator != "batch_norm" else "B"

    @property
    def work(self) -> int:
        """FLOP or bytes of one call."""
        if self.unit == "FLOP":
            return 2 * prod(self.output) * prod(self.shapes["weight"][1:])
        return self.bytes

    @property
    def bytes(self) -> int:
        """Of all that goes in and comes out."""
        read = sum(
            prod(shape) * (LABEL if name == "target" else FLOAT)
            for name, shape in self.shapes.items()
        )
        return read + FLOAT * prod(self.output)


@dataclass(frozen=True)
class Convolution:
    """A layer of a network: `filters` of `kernel` x `kernel` over `channels` of `size` x `size`."""

    layer: str
    channels: int
    filters: int
    kernel: int
    size: int
    stride: int = 1
    padding: int = 0
    first: bool = False
    """Whether images go in, whose gradient nobody wants."""

    def case(self, batch: int, gradient: str | None = None) -> Case:
        """The layer on a batch, or one of its gradients."""
        p = (self.size + 2 * self.padding - self.kernel) // self.stride + 1
        family = f"conv2d_grad_{gradient}" if gradient else "conv2d"
        stride = f" stride {self.stride}" if self.stride > 1 else ""
        return Case(
            name=f"{family}_{self.layer}_b{batch}",
            family=family,
            operator="conv2d",
            title=f"{family} {self.channels}->{self.filters} {self.kernel}x{self.kernel}{stride} "
            f"at {self.size}x{self.size}, batch {batch}",
            shapes={
                "input": (batch, self.channels, self.size, self.size),
                "weight": (self.filters, self.channels, self.kernel, self.kernel),
            },
            output=(batch, self.filters, p, p),
            arguments={"stride": self.stride, "padding": self.padding},
            gradient=gradient,
        )


RESNET18 = (
    Convolution("resnet18_conv1", 3, 64, 7, 224, stride=2, padding=3, first=True),
    Convolution("resnet18_layer1", 64, 64, 3, 56, padding=1),
    Convolution("resnet18_layer2_first", 64, 128, 3, 56, stride=2, padding=1),
    Convolution("resnet18_layer2_down", 64, 128, 1, 56, stride=2),
    Convolution("resnet18_layer2", 128, 128, 3, 28, padding=1),
    Convolution("resnet18_layer3_first", 128, 256, 3, 28, stride=2, padding=1),
    Convolution("resnet18_layer3_down", 128, 256, 1, 28, stride=2),
    Convolution("resnet18_layer3", 256, 256, 3, 14, padding=1),
    Convolution("resnet18_layer4_first", 256, 512, 3, 14, stride=2, padding=1),
    Convolution("resnet18_layer4_down", 256, 512, 1, 14, stride=2),
    Convolution("resnet18_layer4", 512, 512, 3, 7, padding=1),
)
SMALL = (
    Convolution("cifar_conv1", 3, 32, 3, 32, padding=1, first=True),
    Convolution("cifar_conv2", 32, 64, 3, 16, padding=1),
    Convolution("lenet_conv1", 1, 6, 5, 32, first=True),
)


def _on_gpus() -> Iterator[Case]:
    """What fills a GPU: the layers of ResNet18 at batch 32, and rows enough."""
    yield from (layer.case(32) for layer in RESNET18)
    yield from (layer.case(32, "input") for layer in RESNET18 if not layer.first)
    yield from (layer.case(32, "weight") for layer in RESNET18)
    yield _linear("resnet18_fc", 1024, 512, 1000)
    yield _pooling("max_pool2d", "resnet18", (32, 64, 112, 112), 56,
                   kernel_size=3, stride=2, padding=1)  # fmt: skip
    yield _pooling("avg_pool2d", "densenet121", (32, 128, 56, 56), 28, kernel_size=2)
    for layer, shape in (("conv1", (32, 64, 112, 112)), ("layer1", (32, 64, 56, 56))):
        yield _alike("relu", f"resnet18_{layer}", *shape)
        for mode in ("inference", "training"):
            yield _batch_norm(mode, f"resnet18_{layer}", *shape)
    yield _alike("add", "resnet18_layer1", 32, 64, 56, 56)
    yield _alike("softmax", "imagenet", 8192, 1000, dim=1)
    yield _alike("log_softmax", "imagenet", 8192, 1000, dim=1)
    yield _cross_entropy("imagenet", 8192, 1000)


def _convolutions() -> Iterator[Case]:
    for batch in (1, 8):
        yield from (layer.case(batch) for layer in RESNET18)
    yield from (layer.case(32) for layer in SMALL)
    training = [(layer, 8) for layer in RESNET18] + [(layer, 32) for layer in SMALL]
    yield from (layer.case(batch, "input") for layer, batch in training if not layer.first)
    yield from (layer.case(batch, "weight") for layer, batch in training)


def _linear(layer: str, batch: int, inputs: int, outputs: int) -> Case:
    return Case(
        name=f"linear_{layer}_b{batch}",
        family="linear",
        operator="linear",
        title=f"linear {inputs}->{outputs}, batch {batch}",
        shapes={"input": (batch, inputs), "weight": (outputs, inputs), "bias": (outputs,)},
        output=(batch, outputs),
    )


def _pooling(
    operator: str, layer: str, shape: tuple[int, ...], size: int, **arguments: object
) -> Case:
    told = "".join(f", {name} {value}" for name, value in arguments.items())
    return Case(
        name=f"{operator}_{layer}_b{shape[0]}",
        family=operator,
        operator=operator,
        title=f"{operator} {_told(shape)}{told}",
        shapes={"input": shape},
        output=(*shape[:2], size, size),
        arguments=arguments,
    )


def _alike(operator: str, layer: str, *shape: int, **arguments: object) -> Case:
    """An operator whose output has its input's shape; `add` has two inputs."""
    names = ("input", "other") if operator == "add" else ("input",)
    return Case(
        name=f"{operator}_{layer}_b{shape[0]}",
        family=operator,
        operator=operator,
        title=f"{operator} {_told(shape)}",
        shapes=dict.fromkeys(names, shape),
        output=shape,
        arguments=arguments,
    )


def _batch_norm(mode: str, layer: str, *shape: int) -> Case:
    channels = (shape[1],)
    statistics = {"running_mean": channels, "running_var": channels}
    training = mode == "training"
    return Case(
        name=f"batch_norm_{mode}_{layer}_b{shape[0]}",
        family=f"batch_norm_{mode}",
        operator="batch_norm",
        title=f"batch_norm ({mode}) {_told(shape)}",
        shapes={"input": shape, **statistics, "weight": channels, "bias": channels},
        output=shape,
        # no momentum: training passes over the running statistics, and every call computes the same
        arguments={"training": True, "momentum": 0.0} if training else {"training": False},
    )


def _cross_entropy(layer: str, batch: int, classes: int) -> Case:
    return Case(
        name=f"cross_entropy_{layer}_b{batch}",
        family="cross_entropy",
        operator="cross_entropy",
        title=f"cross_entropy {_told((batch, classes))}",
        shapes={"input": (batch, classes), "target": (batch,)},
        output=(),
    )


def _told(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


ON_CPUS = {
    case.name: case
    for case in (
        *_convolutions(),
        _linear("resnet18_fc", 8, 512, 1000),
        _linear("resnet18_fc", 128, 512, 1000),
        _linear("cifar_fc", 32, 4096, 128),
        _pooling("max_pool2d", "resnet18", (8, 64, 112, 112), 56,
                 kernel_size=3, stride=2, padding=1),
        _pooling("max_pool2d", "cifar", (32, 32, 32, 32), 16, kernel_size=2),
        _pooling("avg_pool2d", "densenet121", (8, 128, 56, 56), 28, kernel_size=2),
        _pooling("avg_pool2d", "lenet", (32, 6, 28, 28), 14, kernel_size=2),
        _pooling("adaptive_avg_pool2d", "resnet18", (8, 512, 7, 7), 1, output_size=1),
        _pooling("adaptive_avg_pool2d", "densenet121", (32, 1024, 7, 7), 1, output_size=1),
        _alike("relu", "resnet18_conv1", 8, 64, 112, 112),
        _alike("relu", "resnet18_layer1", 8, 64, 56, 56),
        _alike("relu", "resnet18_layer3", 8, 256, 14, 14),
        _alike("softmax", "imagenet", 128, 1000, dim=1),
        _alike("softmax", "cifar", 512, 10, dim=1),
        _alike("log_softmax", "imagenet", 128, 1000, dim=1),
        _alike("log_softmax", "cifar", 512, 10, dim=1),
        _cross_entropy("imagenet", 128, 1000),
        _cross_entropy("cifar", 512, 10),
        *(
            _batch_norm(mode, layer, *shape)
            for mode in ("inference", "training")
            for layer, shape in (
                ("resnet18_conv1", (8, 64, 112, 112)),
                ("resnet18_layer1", (8, 64, 56, 56)),
                ("resnet18_layer3", (8, 256, 14, 14)),
            )
        ),
        _alike("add", "resnet18_layer1", 8, 64, 56, 56),
        _alike("add", "resnet18_layer3", 8, 256, 14, 14),
    )
}  # fmt: skip
"""What the implementations on the CPU are measured on, by name, in the order of the tables."""
_LARGE = {case.name: case for case in _on_gpus()}
CASES = ON_CPUS | _LARGE
"""Every case by its name."""
ON_GPUS = _LARGE | {name: ON_CPUS[name] for name in (
    *("conv2d_lenet_conv1_b32", "conv2d_cifar_conv1_b32", "conv2d_cifar_conv2_b32"),
    *("conv2d_grad_input_cifar_conv2_b32", "conv2d_grad_weight_cifar_conv2_b32"),
    *("linear_resnet18_fc_b128", "linear_cifar_fc_b32", "max_pool2d_cifar_b32"),
    *("adaptive_avg_pool2d_resnet18_b8", "softmax_cifar_b512", "cross_entropy_cifar_b512"),
)}  # fmt: skip
"""What those on GPUs are measured on."""

NETWORK, NETWORK_BATCH = "resnet18", 8
GPU_NETWORKS = (("lenet", 1), ("lenet", 32), *(("resnet18", 2**k) for k in range(6)))
"""What GPUs run whole, and on how many images at once."""


def gpu_network_title(network: str, batch: int) -> str:
    """What stands above their tables."""
    return f"{network} by device, batch {batch}"


TITLES = {name: case.title for name, case in CASES.items()} | {
    NETWORK: f"{NETWORK} on the operators by hand, batch {NETWORK_BATCH}"
}
"""What stands above the tables, by case, and that of a whole network."""

FEW = (
    "conv2d_resnet18_layer1_b1",
    "conv2d_resnet18_layer2_first_b8",
    "conv2d_cifar_conv1_b32",
    "conv2d_grad_input_cifar_conv2_b32",
    "conv2d_grad_weight_cifar_conv2_b32",
    "linear_resnet18_fc_b128",
    "max_pool2d_cifar_b32",
    "softmax_imagenet_b128",
    "batch_norm_training_resnet18_layer1_b8",
)
"""Those that are measured unless `--shapes all` is given: of each kind of work one."""
FEW_ON_GPUS = (
    "conv2d_lenet_conv1_b32",
    "conv2d_resnet18_layer1_b32",
    "linear_resnet18_fc_b1024",
    "max_pool2d_resnet18_b32",
    "relu_resnet18_conv1_b32",
    "softmax_imagenet_b8192",
    "cross_entropy_imagenet_b8192",
    "batch_norm_training_resnet18_layer1_b32",
)
"""The same for GPUs."""
CACHES = ("cold", "warm")
"""Whether a GPU's L2 cache holds the arguments when a launch begins; see `device_arms`."""
MOST_OF_ONE_THREAD = 20_000_000
"""FLOP or bytes that one thread of a GPU is asked for: it does some tens of millions a second."""
MOST_FLOP_OF_LOOPS = 400_000_000
"""The plain loops do some 2 GFLOP/s: a call of more than this takes many times what all other
arms of its group take together."""


def selected(shapes: str) -> list[Case]:
    """The cases of --shapes, "few" or "all", on the CPU, in the order of the tables."""
    return [case for name, case in ON_CPUS.items() if shapes == "all" or name in FEW]


def selected_on_gpus(shapes: str) -> list[Case]:
    """The same on GPUs."""
    return [case for name, case in ON_GPUS.items() if shapes == "all" or name in FEW_ON_GPUS]
