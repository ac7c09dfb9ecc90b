"""Whole networks on the operators by hand give what torch gives, up to rounding."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import nn

import kernels
import models
from bench.tolerances import rounding_bound
from models import InputError
from models.calibration import calibrate
from models.lenet import LeNet5

IMPLEMENTATIONS = kernels.names("conv2d")


def images(*shape, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def network(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "lenet":
            return LeNet5().eval(), images(3, 1, 32, 32)
        module = torchvision.models.get_model(name, weights=None).eval()
        photographs = images(2, 3, 64, 64)
        calibrate(module, photographs)
        return module, photographs


@pytest.fixture(scope="module", params=["lenet", "resnet18", "densenet121"])
def known(request):
    module, photographs = network(request.param)
    with torch.inference_mode():
        logits = module(photographs)
        return module, photographs, logits, rounding_bound(module, photographs, logits)(logits)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_network_gives_what_torch_gives(known, implementation):
    module, photographs, logits, bound = known
    actual = models.on_kernels(module, implementation)(photographs)
    assert actual.shape == logits.shape
    assert actual.dtype == logits.dtype
    assert (actual - logits).abs().max() <= bound


def test_other_images_give_other_logits(known):
    module, photographs, logits, bound = known
    actual = models.on_kernels(module, "numba")(photographs.flip(0))
    assert (actual - logits).abs().max() > 100 * bound


def test_float64_networks_run_in_float64(known):
    module, photographs, *_ = known
    with torch.inference_mode():
        double = copy.deepcopy(module).double()
        exact = double(photographs.double())
    actual = models.on_kernels(double, "numpy")(photographs.double())
    torch.testing.assert_close(actual, exact, rtol=1e-10, atol=1e-10)


def test_later_changes_of_the_module_do_not_reach_its_copy():
    module, photographs = network("lenet")
    run = models.on_kernels(module, "numpy")
    before = run(photographs)
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()
    assert torch.equal(run(photographs), before)


def test_the_module_stays_as_it_was():
    module, photographs = network("resnet18")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    models.on_kernels(module, "numpy")(photographs)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in module.modules())


def test_a_layer_may_stand_alone():
    module = nn.Conv2d(3, 4, 3).eval()
    x = images(2, 3, 6, 6)
    torch.testing.assert_close(models.on_kernels(module, "numpy")(x), module(x).detach())


class Named(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + 1,
        lambda x: 0.25 + x,
        lambda x: torch.add(input=x, other=2, alpha=3),
        lambda x: x.add(x, alpha=-1),
        lambda x: torch.relu(input=x),
        lambda x: torch.cat(tensors=[x, x], dim=1),
        lambda x: torch.flatten(input=x, start_dim=1),
    ],
)
def test_functions_take_numbers_and_arguments_by_name(function):
    x = images(2, 3, 4, 5) - 0.5
    assert torch.equal(models.on_kernels(Named(function).eval(), "numpy")(x), function(x))


def test_an_empty_batch_gives_no_logits():
    module, photographs = network("lenet")
    logits = models.on_kernels(module, "numpy")(photographs[:0])
    assert logits.shape == (0, *module(photographs).shape[1:])


@pytest.mark.parametrize(
    ("module", "refused"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Hardswish()), r"layer 1 \(Hardswish\)"),
        (nn.Sequential(nn.Conv2d(3, 4, 3, padding_mode="reflect", padding=1)), "reflect"),
        (nn.Sequential(nn.Softmax()), "dim"),
    ],
)
def test_a_layer_without_an_operator_is_named(module, refused):
    with pytest.raises(InputError, match=refused):
        models.on_kernels(module.eval(), "numpy")


def test_a_function_without_an_operator_is_named():
    class Rolled(nn.Module):
        def forward(self, x):
            return torch.roll(x, 1)

    with pytest.raises(InputError, match=r"function roll \(roll\) .*; functions: relu, add, "):
        models.on_kernels(Rolled().eval(), "numpy")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_images_of_another_dtype_are_refused_by_its_name(dtype):
    with pytest.raises(InputError, match=f"float32 or float64 on the CPU, got {dtype} on cpu"):
        models.on_kernels(nn.ReLU().eval(), "numpy")(images(2, 3, dtype=dtype))


def test_a_network_of_two_inputs_is_refused():
    class Sum(nn.Module):
        def forward(self, x, y):
            return x + y

    with pytest.raises(InputError, match="2 inputs"):
        models.on_kernels(Sum().eval(), "numpy")


def test_an_unknown_implementation_is_refused():
    with pytest.raises(InputError, match="no implementation 'fortran'"):
        models.on_kernels(LeNet5().eval(), "fortran")


def test_threads_for_a_sequential_implementation_are_refused():
    with pytest.raises(InputError, match="one thread"):
        models.on_kernels(LeNet5().eval(), "loops", threads=2)
