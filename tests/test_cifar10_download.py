"""Fetching CIFAR-10, without a network: what is opened is made up here."""

from __future__ import annotations

import hashlib
import io
import socket
import tarfile
import urllib.request
from urllib.error import URLError

import pytest

from models import InputError
from models.cifar10 import find_cifar10, read_cifar10
from models.cifar10_download import SECONDS, download_cifar10
from tests.cifar_files import write_python


class Response(io.BytesIO):
    """What an address answers."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.length = len(content)
        self.url = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Serve an archive, by default a small whole one, whose MD5 is the one that is asked for."""
    from torchvision.datasets import CIFAR10

    write_python(tmp_path / "origin")
    with tarfile.open(tmp_path / "small.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "origin/cifar-10-batches-py", "cifar-10-batches-py")
    whole = (tmp_path / "small.tar.gz").read_bytes()
    monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.md5(whole).hexdigest())

    def serve(answer=lambda whole: Response(whole)):
        monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: answer(whole))

    serve()
    return serve


def test_a_whole_set_is_put_in_place_and_nothing_else(tmp_path, served):
    folder = tmp_path / "new" / "data"
    assert download_cifar10(folder) == folder / "cifar-10-batches-py"
    assert [path.name for path in folder.iterdir()] == ["cifar-10-batches-py"]
    found = find_cifar10(folder)
    assert found is not None
    assert len(read_cifar10(found).training.labels) == 100


def refused(folder, match):
    with pytest.raises(InputError, match=match) as caught:
        download_cifar10(folder)
    told = str(caught.value)
    assert "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz by hand" in told
    assert "\n" not in told


def no_network(_):
    raise URLError(socket.gaierror(-3, "Temporary failure in name resolution"))


class BreaksOff(Response):
    def read(self, size: int = -1) -> bytes:
        if self.tell():
            raise ConnectionResetError(104, "Connection reset by peer")
        return super().read(min(size, 100))


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        (no_network, "could not be fetched .*Temporary failure in name resolution"),
        (BreaksOff, "could not be fetched .*Connection reset by peer"),
        (lambda whole: Response(whole[:-50]), "could not be fetched .*corrupted"),
        (lambda whole: Response(whole + b"x"), "could not be fetched .*corrupted"),
    ],
)
def test_a_failed_download_says_why_and_leaves_nothing(tmp_path, served, answer, match):
    served(answer)
    folder = tmp_path / "new" / "data"
    refused(folder, match)
    assert not (tmp_path / "new").exists()


def test_a_full_disk_leaves_nothing(tmp_path, served, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "extractall", full)
    refused(tmp_path / "data", "No space left on device.*400 MB of room")
    assert not (tmp_path / "data").exists()


def test_what_was_in_the_folder_stays(tmp_path, served):
    served(no_network)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.txt").touch()
    refused(tmp_path / "data", "could not be fetched")
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mine.txt"]


def test_a_folder_that_is_a_file_is_refused(tmp_path, served):
    (tmp_path / "data").touch()
    refused(tmp_path / "data", "could not be fetched .*File exists")


def test_of_two_at_once_the_first_ones_set_stays(tmp_path, served):
    def while_another_finishes(whole):
        (tmp_path / "data/cifar-10-batches-py").mkdir(exist_ok=True)
        (tmp_path / "data/cifar-10-batches-py/first").touch()
        return Response(whole)

    served(while_another_finishes)
    ready = download_cifar10(tmp_path / "data")
    assert [path.name for path in ready.iterdir()] == ["first"]
    assert [path.name for path in (tmp_path / "data").iterdir()] == [ready.name]


def test_a_connection_is_not_waited_for_without_end(tmp_path, served):
    seen = []

    def note(whole):
        seen.append(socket.getdefaulttimeout())
        return Response(whole)

    served(note)
    download_cifar10(tmp_path)
    assert set(seen) == {SECONDS}
    assert socket.getdefaulttimeout() is None
