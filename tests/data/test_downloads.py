import hashlib
import socket
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bruno.data import download, downloadable_names
from bruno.data.idx import load_mnist
from bruno.data.omniglot import load_omniglot
from bruno.data.registry import SOURCES, Source
from bruno.data.remote import RemoteFile
from bruno.errors import MissingDataError, UserError

CONTENT = b"some images"


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def home(tmp_path):
    """A web server on this machine that has one file."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "images.zip").write_bytes(CONTENT)
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: QuietHandler(*args, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def publish(monkeypatch, url, checksum=None):
    checksum = checksum or f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    files = (RemoteFile(url, "omniglot/x.zip", checksum),)
    monkeypatch.setitem(SOURCES, "omniglot", Source(SOURCES["omniglot"].load, files=files))


def test_fetches_checks_and_puts_in_place(home, tmp_path, monkeypatch):
    publish(monkeypatch, home + "images.zip")
    (path,) = download("omniglot", tmp_path / "data")
    assert path == tmp_path / "data" / "omniglot" / "x.zip"
    assert path.read_bytes() == CONTENT


def test_files_already_there_are_left_alone(tmp_path, monkeypatch):
    publish(monkeypatch, "http://127.0.0.1:9/unreachable")
    path = tmp_path / "omniglot" / "x.zip"
    path.parent.mkdir()
    path.write_bytes(b"repacked by hand")
    assert download("omniglot", tmp_path) == [path]
    assert path.read_bytes() == b"repacked by hand"


def test_wrong_content_leaves_nothing(home, tmp_path, monkeypatch):
    publish(monkeypatch, home + "images.zip", "md5:" + "0" * 32)
    with pytest.raises(UserError, match=r"cannot download .*images.zip to .*x.zip"):
        download("omniglot", tmp_path / "data")
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


def test_broken_connection_leaves_nothing(tmp_path, monkeypatch):
    listener = socket.create_server(("127.0.0.1", 0))

    def answer_half():
        connection, _ = listener.accept()
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
        connection.close()

    thread = threading.Thread(target=answer_half)
    thread.start()
    publish(monkeypatch, f"http://127.0.0.1:{listener.getsockname()[1]}/images.zip")
    with pytest.raises(UserError, match="cannot download"):
        download("omniglot", tmp_path / "data")
    thread.join()
    listener.close()
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file()]


@pytest.mark.parametrize("missing", ["gone.zip", ""])
def test_network_failure_is_one_user_error(home, tmp_path, monkeypatch, missing):
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/images.zip"
    publish(monkeypatch, home + missing if missing else closed)
    with pytest.raises(UserError, match="cannot download http://127"):
        download("omniglot", tmp_path / "data")


def test_unwritable_place(tmp_path, home, monkeypatch):
    publish(monkeypatch, home + "images.zip")
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot download"):
        download("omniglot", tmp_path / "data")


def test_names():
    assert downloadable_names() == ("omniglot", "mnist", "fashion")


@pytest.mark.parametrize("name", ["glyphs", "digits", "blocks"])
def test_built_in_data_need_no_download(name, tmp_path):
    with pytest.raises(UserError, match=f"{name} is built in, nothing needs to be downloaded"):
        download(name, tmp_path)


def test_unknown_names_list_the_known(tmp_path):
    with pytest.raises(UserError, match=r"expected one of omniglot, mnist, fashion .* got 'cifar'"):
        download("cifar", tmp_path)


def test_what_is_downloaded_is_what_the_loaders_look_for(tmp_path):
    for name, load in (("omniglot", load_omniglot), ("mnist", load_mnist)):
        for file in SOURCES[name].files:
            assert file.url.startswith("https://")
            assert file.url.endswith(file.path.rpartition("/")[2])
            path = tmp_path / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        with pytest.raises(UserError) as raised:
            load(tmp_path, "test")
        # Empty files are damaged, but found.
        assert not isinstance(raised.value, MissingDataError)


def test_checksums_of_the_split_files(real_data):
    folder = real_data("omniglot")
    for file in SOURCES["omniglot"].files:
        if "vinyals" in file.path:
            digest = hashlib.sha256((folder / file.path).read_bytes()).hexdigest()
            assert file.checksum == f"sha256:{digest}"
