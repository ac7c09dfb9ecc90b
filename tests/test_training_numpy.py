"""The CIFAR CNN by hand, its optimizers and its start are torch's, weight by weight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_checks import ADAM, SGD, assert_close, by_torch, digit_batches, start, trained

from bench.training.networks import build, initial_weights
from bench.training.numpy_trainer import NumpyTrainer
from bench.training.problem import make_problem
from bench.training.settings import Settings
from bench.training.torch_trainer import TorchTrainer, optimizer_of
from bench.training.trainer import DivergedError, Task
from models import InputError
from models.datasets import DataChoice, load_dataset
from models.initialisation import he_normal
from models.numpy_cnn import SHAPES, NumpyCnn
from models.optimizers import IMPLEMENTATIONS, OPTIMIZERS


def begun(implementation: str) -> NumpyCnn:
    """The network in float64 with its first weights."""
    network = NumpyCnn(implementation, dtype=np.float64)
    for name, array in network.weights.named.items():
        array[...] = start().weights[name]
    return network


@pytest.mark.parametrize("implementation", ["numpy", "numba", "numba_threads"])
@pytest.mark.parametrize("task", [SGD, ADAM], ids=["sgd", "adam"])
def test_fifty_steps_in_float64_are_torchs(implementation: str, task: Task) -> None:
    hand = NumpyTrainer(task, implementation, dtype=np.float64)
    assert_close(trained(hand, start(), digit_batches(50, 8)), by_torch(task, 50, 8))


def test_a_single_wrong_label_does_not_pass() -> None:
    batches = digit_batches(2, 8)
    labels = batches[1].labels.copy()
    labels[0] = (labels[0] + 1) % 10
    wrong = [batches[0], batches[1]._replace(labels=labels)]
    hand = trained(NumpyTrainer(SGD, "numba", dtype=np.float64), start(), wrong)
    with pytest.raises(AssertionError, match="is off by"):
        assert_close(hand, by_torch(SGD, 2, 8))


@pytest.mark.parametrize("implementation", ["numpy", "numba"])
def test_every_gradient_is_torchs_by_name(implementation: str) -> None:
    (batch,) = digit_batches(1, 6)
    network = begun(implementation)
    network.step(*batch, share=0.25)
    module = build("cifar_cnn", 10).double()
    module.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in start().weights.items()})
    logits = module(torch.from_numpy(batch.images).double())
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(batch.labels)) / 4
    loss.backward()
    assert network.gradients.flat[-1] == pytest.approx(loss.item(), rel=1e-12)
    for name, parameter in module.named_parameters():
        wanted = parameter.grad.numpy()
        off = np.abs(network.gradients.named[name] - wanted).max()
        assert off <= 1e-13 * np.abs(wanted).max(), name


def test_shares_of_a_batch_add_up_to_it() -> None:
    network = begun("numba")
    ((images, labels),) = digit_batches(1, 8)
    network.step(images, labels)
    whole = network.gradients.flat.copy()
    total = np.zeros_like(whole)
    for rows in (slice(0, 5), slice(5, 8), slice(8, 8)):
        network.step(images[rows], labels[rows], share=len(labels[rows]) / len(labels))
        total += network.gradients.flat
    np.testing.assert_allclose(total, whole, rtol=0, atol=1e-13 * np.abs(whole).max())


def test_layers_are_told_in_the_order_of_the_buffer() -> None:
    network = begun("numba")
    ready: list[str] = []
    network.step(*digit_batches(1, 8)[0], ready=ready.append)
    parts = np.concatenate([network.gradients.layer(layer) for layer in ready])
    assert np.shares_memory(network.gradients.layer("conv1"), network.gradients.flat)
    np.testing.assert_array_equal(parts, network.gradients.flat[:-1])
    assert parts.size == sum(p.numel() for p in build("cifar_cnn", 10).parameters()) == 1_070_794


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_step_is_torch_optims(name: str, implementation: str) -> None:
    """Within a few roundings of float32: compiled code may join a product and a sum into one."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(200_003, dtype=np.float32)
    parameter = torch.nn.Parameter(torch.from_numpy(weights.copy()))
    settings = Settings(optimizer=name)
    theirs = optimizer_of(torch.nn.ParameterList([parameter]), settings)
    ours = OPTIMIZERS[name](weights, settings.lr, implementation)
    for _ in range(5):
        gradient = rng.standard_normal(len(weights), dtype=np.float32)
        parameter.grad = torch.from_numpy(gradient.copy())
        theirs.step()
        ours.step(gradient)
        np.testing.assert_allclose(weights, parameter.detach(), rtol=1e-6, atol=3e-7)
    for kind, buffer in ours.buffers.items():
        np.testing.assert_allclose(buffer, theirs.state[parameter][kind], rtol=2e-6, atol=1e-6)


def test_he_initialisation_is_kaimings() -> None:
    drawn = he_normal({"w": (512, 64, 3, 3), "b": (512,)}, seed=1)
    theirs = torch.nn.init.kaiming_normal_(torch.empty(512, 64, 3, 3), nonlinearity="relu")
    assert drawn["w"].std() == pytest.approx(theirs.std().item(), rel=0.01)
    assert abs(drawn["w"].mean()) < 1e-3
    assert not drawn["b"].any()
    assert {n: w.shape for n, w in initial_weights("cifar_cnn", 10).items()} == {
        n: tuple(t.shape) for n, t in build("cifar_cnn", 10).state_dict().items()
    }
    assert set(SHAPES) == set(initial_weights("cifar_cnn", 10))


@pytest.mark.parametrize("task", [SGD, ADAM], ids=["sgd", "adam"])
def test_training_goes_on_from_a_state_of_another_strategy(task: Task) -> None:
    first, rest = digit_batches(6, 8)[:3], digit_batches(6, 8)[3:]
    half = trained(NumpyTrainer(task, "numba", dtype=np.float64), start(), first)
    for other in (
        TorchTrainer(task, 1, dtype=torch.float64),
        NumpyTrainer(task, "numpy", dtype=np.float64),
    ):
        assert_close(trained(other, half, rest), by_torch(task, 6, 8))


@pytest.mark.parametrize("strategy", ["numba", "torch"])
def test_a_rate_that_diverges_is_told(strategy: str) -> None:
    task = replace(SGD, settings=Settings(lr=1e6))
    trainer = NumpyTrainer(task, "numba") if strategy == "numba" else TorchTrainer(task, 1)
    with pytest.raises(DivergedError, match=r"at step \d: training diverged with sgd, --lr 1e\+06"):
        trained(trainer, start(), digit_batches(50, 8))


def test_another_network_has_no_numpy_arm() -> None:
    with pytest.raises(InputError, match="cifar_cnn alone, got resnet18"):
        NumpyTrainer(Task("resnet18", Settings()), "numba")


def test_weights_that_are_off_by_little_are_refused() -> None:
    problem = make_problem(SGD, load_dataset(DataChoice()), steps=1, batch_size=4)
    assert problem.check(problem.reference)["max_abs_error"] == 0
    for name, array in problem.reference.items():
        change = array - problem.start.weights[name]
        off = {**problem.reference, name: array + change * np.float32(0.01)}
        with pytest.raises(AssertionError, match=f"{name} is off by"):
            problem.check(off)
