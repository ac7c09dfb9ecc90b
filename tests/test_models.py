"""Networks by name and their weights."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import nn

from bench.workload import check_logits, prepare
from models import Choice, InputError
from models.images import input_of, load_images
from models.networks import build, check_name, names
from models.weights import read_state

SMALL = "squeezenet1_1"


def lenet(**kwargs):
    return build(Choice("lenet", **kwargs), image_size=32)


class RunsCode:
    """What a malicious pickle is made of."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('the pickle was run')",))


def test_lenet_takes_grey_images_of_32_pixels():
    assert lenet()(torch.zeros(2, 1, 32, 32)).shape == (2, 10)


def test_every_classification_network_of_torchvision_is_known():
    assert {"lenet", "resnet18", "vgg16", "vit_b_16", "mobilenet_v3_small"} <= set(names())
    assert not {"fcn_resnet50", "raft_large", "fasterrcnn_resnet50_fpn"} & set(names())


def test_an_unknown_network_is_told_what_comes_near():
    with pytest.raises(InputError, match=r"resnet81.*did you mean resnet18.*Allowed: lenet"):
        check_name("resnet81")


def test_the_seed_is_the_same_every_time_and_disturbs_no_other_random_numbers():
    before = torch.random.get_rng_state()
    first, second = lenet().state_dict(), lenet().state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("model", "size"),
    [("lenet", None), ("resnet18", 64), (SMALL, 64), ("mobilenet_v3_small", 64), ("vit_b_32", 64)],
)
def test_random_weights_give_every_image_logits_of_its_own(model, size):
    logits = prepare(Choice(model, image_size=size, num_inferences=8)).logits
    assert logits.std(0).mean() > 0.05
    assert logits.argmax(1).unique().numel() > 1


@pytest.mark.parametrize("num_inferences", [1, 2])
def test_few_images_are_enough_to_fit_random_weights(num_inferences):
    logits = prepare(Choice("lenet", num_inferences=num_inferences)).logits
    assert logits.isfinite().all()
    assert logits.std() > 0.1


def test_logits_that_cannot_tell_images_apart_are_refused():
    images = torch.rand(3, 1, 4, 4)
    with pytest.raises(InputError, match="same logits for different images"):
        check_logits("constant", images, torch.ones(3, 10))
    with pytest.raises(InputError, match="not finite"):
        check_logits("broken", images, torch.full((3, 10), torch.nan))
    with pytest.raises(InputError, match=r"wanted logits \[images, classes\]"):
        check_logits("a map", images, torch.rand(3, 10, 4, 4))
    check_logits("the same photograph twice", images[[0, 0, 1]], torch.eye(3)[[0, 0, 1]])


def test_images_that_a_network_cannot_take_are_refused():
    with pytest.raises(InputError, match=r"lenet cannot take 2 images of shape \(1, 40, 40\)"):
        prepare(Choice("lenet", image_size=40, num_inferences=2))
    with pytest.raises(InputError, match="vit_b_16 cannot be built for images of 40 px"):
        build(Choice("vit_b_16"), image_size=40)


def test_weights_from_a_file_are_the_weights_of_the_network(tmp_path):
    state = {key: torch.full_like(value, 0.5) for key, value in lenet().state_dict().items()}
    torch.save(state, tmp_path / "lenet.pt")
    loaded = lenet(weights=str(tmp_path / "lenet.pt")).state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_weights_of_another_network_are_refused_with_their_keys(tmp_path):
    torch.save(build(Choice(SMALL), 64).state_dict(), tmp_path / "other.pt")
    with pytest.raises(InputError, match=r"does not fit lenet: it lacks features\.3\.weight"):
        lenet(weights=str(tmp_path / "other.pt"))


def test_weights_of_another_shape_are_refused_with_both_shapes(tmp_path):
    state = lenet().state_dict()
    torch.save(state | {"classifier.5.bias": torch.zeros(7)}, tmp_path / "seven.pt")
    with pytest.raises(InputError, match=r"classifier.5.bias is \(7,\) for \(10,\)"):
        lenet(weights=str(tmp_path / "seven.pt"))


def test_truncated_weights_are_refused(tmp_path):
    file = tmp_path / "cut.pt"
    torch.save(lenet().state_dict(), file)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cut\.pt: truncated, damaged"):
        read_state(str(file))
    file.write_bytes(b"")
    with pytest.raises(InputError, match=r"cut\.pt: truncated, damaged"):
        read_state(str(file))


def save_with_pickle(thing, file):
    file.write_bytes(pickle.dumps(thing))


@pytest.mark.parametrize("save", [torch.save, save_with_pickle])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, save):
    save({"weight": RunsCode()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match=r"evil.pt: refused.*might run code") as caught:
        read_state(str(tmp_path / "evil.pt"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("thing", [{"epoch": 3, "state_dict": {}}, [1, 2], torch.zeros(3)])
def test_a_file_that_holds_no_state_dict_is_refused(tmp_path, thing):
    torch.save(thing, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"checkpoint.pt: wanted a state dict"):
        read_state(str(tmp_path / "checkpoint.pt"))


def test_missing_weights_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_state(str(tmp_path / "none.pt"))
    with pytest.raises(InputError, match="is a folder"):
        read_state(str(tmp_path))


def test_weights_that_no_system_can_open_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"--weights .*cannot be read \(File name too long\)"):
        read_state(str(tmp_path / ("x" * 5000)))


def test_weights_that_are_not_ones_own_are_refused(tmp_path, monkeypatch):
    def forbidden(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "is_file", forbidden)  # root may read everything
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
        read_state(str(tmp_path / "lenet.pt"))


@pytest.mark.parametrize(
    "spoil",
    [lambda t: t.to(torch.complex64), torch.Tensor.to_sparse, lambda t: t.to("meta")],
    ids=["complex", "sparse", "meta"],
)
def test_weights_that_are_no_dense_real_numbers_are_refused(tmp_path, spoil):
    state = {key: spoil(value) for key, value in lenet().state_dict().items()}
    torch.save(state, tmp_path / "odd.pt")
    with pytest.raises(InputError, match="wanted dense tensors of real numbers"):
        lenet(weights=str(tmp_path / "odd.pt"))


def test_pretrained_weights_that_cannot_be_fetched_are_an_error_with_a_remedy(monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    with pytest.raises(InputError, match=r"could not be fetched.*no route to host.*--weights FILE"):
        build(Choice(SMALL, weights="DEFAULT"), 224)


@pytest.mark.parametrize("model", ["lenet", "own:Network"])
def test_default_weights_are_torchvisions_alone(model):
    with pytest.raises(InputError, match=f"{model} has no pretrained weights"):
        build(Choice(model, weights="DEFAULT"), 224)


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(
        "import torch\n"
        "def half(): return torch.nn.Flatten().half().train()\n"
        "def raises(): raise RuntimeError('no licence\\nsecond line')\n"
        "def number(): return 3\n"
        "def leaves(): raise SystemExit(3)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return "own_networks"


def test_a_network_of_ones_own_is_taken_in_eval_mode(own):
    network = build(Choice(f"{own}:half"), 32)
    assert isinstance(network, nn.Flatten)
    assert not network.training


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("raises", "the factory raised RuntimeError: no licence; wanted"),
        ("number", "the factory returned int; wanted"),
        ("leaves", "the factory raised SystemExit: 3; wanted"),
        ("missing", "cannot be imported .*AttributeError"),
        ("", "wanted package.module:factory"),
        ("a.b", "wanted package.module:factory"),
    ],
)
def test_a_factory_that_gives_no_network_is_refused(own, factory, message):
    with pytest.raises(InputError, match=message) as caught:
        build(Choice(f"{own}:{factory}"), 32)
    assert "\n" not in str(caught.value)


def test_a_module_that_cannot_be_imported_is_refused():
    with pytest.raises(InputError, match=r"cannot be imported .*no_such_module"):
        build(Choice("no_such_module:factory"), 32)


def test_images_are_as_large_as_the_networks_weights_ask():
    assert input_of(Choice("efficientnet_b3")).size == 300
    assert input_of(Choice("own:factory")).size == 224
    assert load_images(Choice("resnet18", image_size=48, num_inferences=2)).shape == (2, 3, 48, 48)
