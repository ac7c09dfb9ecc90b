"""Every way of loading gives the same images with the same labels, and outlives a broken file."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from bench.loading.epoch import Epoch, as_a_set, plain
from bench.loading.file_cache import cold_is_impossible
from bench.loading.photos import load_files, read_photos
from bench.loading.test_loop import loop
from bench.loading.training import Training
from bench.training.settings import Settings
from models import InputError
from pytest_speedup.proof import ProofError, Tolerance, prove
from tests.cifar_files import write_python
from tests.loading_cases import BATCH, LOADERS, NUMBER, SIZE, make_photos

EXACT = Tolerance()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def expected(photos):
    return list(loop(photos))


@pytest.fixture(scope="module", params=LOADERS)
def loader(request, photos):
    with LOADERS[request.param](photos) as load:
        yield load


@pytest.fixture
def broken_file(photos):
    """The fifth image, cut off; whole again afterwards."""
    file = photos.files[4]
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    yield file
    file.write_bytes(whole)


def test_an_epoch_is_every_image_once_in_mixed_order(photos, expected):
    assert [len(labels) for _, labels in expected] == [3, 3, 3, 3, 1]
    assert photos.batch_size == BATCH
    assert len(set(photos.files)) == len(photos) == NUMBER
    assert list(photos.files) != sorted(photos.files)
    for file, label in zip(photos.files, photos.labels, strict=True):
        assert file.parent.name == photos.classes[label] == f"class{label}"
    images = torch.cat([images for images, _ in expected])
    assert images.shape == photos.shape == (NUMBER, 3, SIZE, SIZE)
    assert len(torch.unique(images, dim=0)) == NUMBER


def test_all_loaders_give_the_same_images_and_labels_epoch_after_epoch(loader, expected):
    check = as_a_set(expected)
    for _ in range(2):
        check(Epoch(loader)())


def test_where_order_is_kept_it_is_the_same(loader, expected, request):
    if "imap_unordered" in request.node.name:
        pytest.skip("a batch comes when it is whole")
    assert prove(Epoch(loader)(), expected, EXACT).bitwise


def test_a_broken_image_is_named_in_one_line_and_then_loading_goes_on(
    loader, expected, photos, broken_file
):
    with pytest.raises(InputError) as caught:
        Epoch(loader)()
    assert str(caught.value).startswith(f"{broken_file} is broken (")
    assert str(caught.value).endswith("replace it or take it away")
    assert "\n" not in str(caught.value)


def test_after_a_broken_image_the_next_epoch_is_whole(loader, expected):
    as_a_set(expected)(Epoch(loader)())


@pytest.mark.parametrize("name", ["pool_map", "pool_imap_unordered", "pool_apply_async"])
def test_an_image_that_nobody_loads_is_not_the_one_of_the_epoch_before(
    photos, expected, name, monkeypatch
):
    with LOADERS[name](photos) as load:
        pool = load.__self__
        as_a_set(expected)(Epoch(load)())
        pool._begin()
        as_it_lies = [pool._batch(batch) for batch in photos.batches()]
        with pytest.raises(ProofError):
            prove(as_it_lies, expected, EXACT)


def swap_labels(batches):
    (images, labels), (others, their) = batches[:2]
    return [(images, their), (others, labels), *batches[2:]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda batches: batches[1:], "batches of"),
        (lambda batches: [*batches[:-1], batches[-1], batches[-1]], "batches of"),
        (lambda batches: [batches[0], *batches[:1], *batches[2:]], "3 images are missing"),
        (lambda batches: [(i + 1e-3, n) for i, n in batches], "13 images are missing"),
        (swap_labels, "images are missing"),
        (lambda batches: [(i.double(), n) for i, n in batches], "wanted torch.float32"),
        (lambda batches: [(i, n.int()) for i, n in batches], "wanted torch.int64"),
    ],
)
def test_the_check_of_a_set_finds_what_is_wrong(expected, spoil, message):
    with pytest.raises(AssertionError, match=message):
        as_a_set(expected)(spoil(expected))


def test_the_check_of_a_set_lets_the_order_be_free(expected):
    as_a_set(expected)([*expected[3:0:-1], expected[0], expected[4]])


def test_the_message_of_a_worker_is_taken_out_of_its_traceback():
    told = (
        "Caught InputError in worker 0.\nTraceback ...\nmodels.errors.InputError: a.jpeg is bad\n"
    )
    assert str(plain(InputError(told))) == "a.jpeg is bad"
    assert str(plain(InputError("a.jpeg is bad"))) == "a.jpeg is bad"


def test_an_epoch_has_four_batches_at_least_and_64_images_at_most(tmp_path):
    make_photos(tmp_path)
    assert read_photos(tmp_path, 4, SIZE, 32).batch_size == 1
    assert read_photos(tmp_path, 8, SIZE, 32).batch_size == 2
    assert read_photos(tmp_path, 2, SIZE, 32).batch_size == 1
    assert len(read_photos(tmp_path, 5, SIZE, 32)) == 5


def test_more_images_than_memory_holds_are_refused(tmp_path):
    make_photos(tmp_path)
    with pytest.raises(InputError, match=r"13 images 999999px .*GiB.*ask for fewer"):
        read_photos(tmp_path, None, 999_999, 4)


def test_files_in_memory_alone_cannot_be_cold(photos, monkeypatch):
    monkeypatch.setattr("bench.loading.file_cache._is_cached", lambda _: True)
    assert "13 of 13 files stay in the cache" in cold_is_impossible(photos.files)

    def untold(file):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("bench.loading.file_cache._is_cached", untold)
    assert "does not tell what is cached" in cold_is_impossible(photos.files)
    monkeypatch.delattr("os.posix_fadvise", raising=False)
    assert "this system has no way" in cold_is_impossible(photos.files)


def test_training_leaves_the_same_weights_after_every_restart(
    photos, expected, torch_on_one_thread
):
    pairs = expected[:4]  # batch norm cannot learn from one image of one pixel
    training = Training(len(photos.classes), Settings())
    first = training.epoch(pairs)
    training.restart()
    assert prove(training.on(lambda: islice(loop(photos), 4))(), first, EXACT).bitwise
    with pytest.raises(ProofError):  # without a restart it goes on
        prove(training.epoch(pairs), first, EXACT)
    training.restart()
    with pytest.raises(ProofError):  # batches in another order
        prove(training.epoch(pairs[::-1]), first, EXACT)


def test_cifar10_is_refused_by_its_name(tmp_path):
    with pytest.raises(InputError, match="CIFAR-10's pictures need no decoding"):
        read_photos(write_python(tmp_path), None, SIZE, 32)


def test_training_takes_the_optimizer_that_was_asked_for(photos, expected, torch_on_one_thread):
    training = Training(len(photos.classes), Settings(optimizer="adam"))
    first = training.epoch(expected[:4])
    sgd = Training(len(photos.classes), Settings()).epoch(expected[:4])
    with pytest.raises(ProofError):
        prove(sgd, first, EXACT)
    training.restart()
    assert prove(training.epoch(expected[:4]), first, EXACT).bitwise


def test_bytes_are_normalised_to_the_same_bits(photos):
    from bench.loading.photos import load_bytes
    from bench.loading.test_dask import normalised

    some = photos.files[:3], photos.labels[:3], SIZE
    images, labels = normalised(load_bytes(*some))
    assert torch.equal(images, torch.from_numpy(load_files(*some)[0]))
    assert labels.tolist() == list(photos.labels[:3])
