"""Whole networks on the GPU's operators, inferring and training, on the host grid."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import models
from models.differentiable import cross_entropy, trainable
from models.errors import InputError
from models.lenet import LeNet5
from tests.gpu_checks import hosted

pytestmark = pytest.mark.usefixtures("torch_on_one_thread")

each_language = pytest.mark.parametrize("implementation", ["cuda", "metal"])


@pytest.fixture(autouse=True)
def on_host(request, monkeypatch):
    hosted(request.config, monkeypatch)


class Residual(nn.Module):
    """Every kind of layer that ResNets and DenseNets have."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.norm = nn.BatchNorm2d(16)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.last = nn.Linear(16, 5)

    def forward(self, x):
        x = self.pool(self.first(x))
        x = F.relu(self.second(x) + x)
        x = self.norm(torch.cat([x, x], 1))
        return self.last(torch.flatten(self.mean(x), 1))


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@each_language
def test_lenet_is_torch_s(implementation):
    torch.manual_seed(0)
    network, x = LeNet5().eval(), drawn(3, 1, 32, 32)
    actual = models.on_kernels(network, implementation)(x)
    torch.testing.assert_close(actual, network(x).detach(), rtol=1e-5, atol=1e-5)


@each_language
def test_a_network_with_every_kind_of_layer_is_torch_s(implementation):
    torch.manual_seed(0)
    network, x = Residual().eval(), drawn(2, 3, 9, 10)
    actual = models.on_kernels(network, implementation)(x)
    torch.testing.assert_close(actual, network(x).detach(), rtol=1e-5, atol=1e-5)


def test_images_of_another_dtype_are_refused():
    run = models.on_kernels(LeNet5().eval(), "cuda")
    with pytest.raises(InputError, match=r"the images must be float32 on cpu, got torch\.float64"):
        run(drawn(1, 1, 32, 32).double())
    with pytest.raises(InputError, match=r"the network must be float32, got torch\.float64"):
        models.on_kernels(LeNet5().eval().double(), "cuda")


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 4, 3), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 7), nn.Tanh(), nn.Linear(7, 5, bias=False),
    )  # fmt: skip


@each_language
def test_gradients_by_hand_are_autograd_s(implementation):
    network, x, labels = small(), drawn(4, 3, 12, 12), torch.tensor([0, 4, 2, 2])
    by_hand = trainable(network, implementation)
    loss = cross_entropy(implementation)(by_hand(x), labels)
    loss.backward()
    wanted = F.cross_entropy(network(x), labels)
    wanted.backward()
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=1e-6)
    expected = dict(network.named_parameters())
    assert dict(by_hand.named_parameters()).keys() == expected.keys()
    for name, parameter in by_hand.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-4, atol=1e-6)


def test_a_second_derivative_is_refused():
    x = drawn(1, 3, 12, 12).requires_grad_()
    (grad,) = torch.autograd.grad(trainable(small(), "cuda")(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_the_copy_trains_and_the_original_stays():
    network, x, labels = small(), drawn(4, 3, 12, 12), torch.tensor([0, 4, 2, 2])
    before = copy.deepcopy(network.state_dict())
    by_hand = trainable(network, "cuda")
    optimizer = torch.optim.SGD(by_hand.parameters(), 0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = cross_entropy("cuda")(by_hand(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("network", "implementation", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 1, 3), nn.GELU()), "cuda", "GELU has no operator by hand"),
        (nn.Conv2d(1, 1, 3, padding_mode="reflect"), "cuda", "padding_mode='reflect'"),
        (nn.ReLU(), "numba", "no implementation 'numba'; allowed: cuda_sequential, cuda"),
    ],
)
def test_what_cannot_train_is_refused_by_name(network, implementation, message):
    with pytest.raises(InputError, match=message):
        trainable(network, implementation)
