"""How a torch network is traced: what is folded, what happens in place, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import models
from models import InputError
from models.lenet import LeNet5


def images(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


class Layers(nn.Module):
    """A function of its layers and the input."""

    def __init__(self, function):
        super().__init__()
        self.same = nn.Dropout()
        self.relu = nn.ReLU(inplace=True)
        self.flatten = nn.Flatten()
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def relu_in_place(net, x):
    y = x + x
    z = net.relu(net.same(y))
    return y + z


def added_in_place(net, x):
    y = x + x
    z = net.same(y)
    z += 1
    return y + z


def flattened_in_place(net, x):
    y = net.flatten(x + x)
    z = net.relu(y)
    return y + z


@pytest.mark.parametrize("function", [relu_in_place, added_in_place, flattened_in_place])
def test_what_is_changed_in_place_is_changed_for_later_layers(function):
    module = Layers(function).eval()
    x = images(2, 3, 4, 4) - 0.5
    assert torch.equal(models.on_kernels(module, "numpy")(x), module(x))


def flat_view(net, x):
    y = x + x
    z = net.relu(net.flatten(y))
    return torch.flatten(y, 1) + z


def view_of_what_changes(net, x):
    y = x + x
    z = y.flatten(1)
    y += 1
    return z


@pytest.mark.parametrize("function", [flat_view, view_of_what_changes])
def test_a_change_in_place_that_another_shape_shows_is_refused(function):
    with pytest.raises(InputError, match=r"changes in place what .* shows in another shape"):
        models.on_kernels(Layers(function).eval(), "numpy")


@pytest.mark.parametrize("at", [(), (0,), (1,)], ids=["network", "convolution", "norm"])
@pytest.mark.parametrize("hook", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_that_would_be_left_out_are_refused(hook, at):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    layer = module[at[0]] if at else module
    handle = getattr(layer, hook)(lambda *_: None)
    with pytest.raises(InputError, match=rf"\({type(layer).__name__}\) has hooks"):
        models.on_kernels(module, "numpy")
    handle.remove()
    models.on_kernels(module, "numpy")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64])
@pytest.mark.parametrize("name", ["weight", "running_mean"])
def test_weights_of_another_dtype_are_refused_by_name(name, dtype):
    module = nn.Sequential(nn.BatchNorm2d(4)).eval()
    getattr(module[0], name).data = torch.ones(4, dtype=dtype)
    with pytest.raises(InputError, match=rf"0\.{name} of Sequential is {dtype} on cpu"):
        models.on_kernels(module, "numpy")


def test_weights_elsewhere_than_on_the_cpu_are_refused():
    with pytest.raises(InputError, match=r"weight of Conv2d is torch.float32 on meta; .* cpu\(\)"):
        models.on_kernels(nn.Conv2d(3, 4, 3, device="meta").eval(), "numpy")


def test_a_batch_norm_whose_convolution_feeds_others_is_not_folded():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.conv(x)
            return self.norm(y) + y

    torch.manual_seed(0)
    module = Two().eval()
    module.norm.running_mean.fill_(0.5)
    x = images(2, 3, 6, 6)
    torch.testing.assert_close(models.on_kernels(module, "numpy")(x), module(x).detach())


def test_a_convolution_that_is_called_twice_is_not_folded():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x):
            return self.conv(self.norm(self.conv(x)))

    torch.manual_seed(0)
    module = Twice().eval()
    module.norm.running_mean.fill_(0.5)
    x = images(2, 3, 6, 6)
    torch.testing.assert_close(models.on_kernels(module, "numpy")(x), module(x).detach())


def norm(channels):
    module = nn.BatchNorm2d(channels)
    for parameter in (module.weight, module.bias, module.running_mean):
        nn.init.normal_(parameter)
    return module


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [nn.Conv2d(3, 4, 3), norm(4), norm(4)],
        lambda: [nn.Conv2d(3, 4, 3), norm(4), nn.ReLU(), nn.ReLU(), norm(4)],
        lambda: [nn.Conv2d(3, 4, 3), nn.ReLU(), norm(4)],
    ],
    ids=["two norms", "norm and two relus", "relu before the norm"],
)
def test_each_of_several_layers_after_a_convolution_is_done(layers):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = nn.Sequential(*layers()).eval()
    x = images(2, 3, 6, 6)
    torch.testing.assert_close(models.on_kernels(module, "numpy")(x), module(x).detach())


def test_a_network_in_training_mode_is_refused():
    with pytest.raises(InputError, match="eval"):
        models.on_kernels(LeNet5().train(), "numpy")


def test_a_network_that_cannot_be_traced_is_refused():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(InputError, match="Branching cannot be traced"):
        models.on_kernels(Branching().eval(), "numpy")
