"""Downloads from servers on loopback that behave well, badly and not at all; archives that are not right."""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest

FOLDER = "letters"
FILE = "letters.tar.gz"


def _tar(files: dict[str, bytes], folder: str = FOLDER) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


LETTERS = {"a.bin": random.Random(0).randbytes(3 * 2**20), "b.bin": bytes(1024), "c.txt": b"see\n"}
CONTENT = _tar(LETTERS)


@dataclass
class Server:
    """What a server sends, and what it was asked."""

    content: bytes = CONTENT
    ranges: bool = True  # understands Range
    break_after: list[int] = field(default_factory=list)  # bytes of each next answer, then it hangs up
    statuses: list[int] = field(default_factory=list)  # of each next answer, instead of the content
    length: bool = True  # says how long it is
    headers: dict[str, str] = field(default_factory=dict)
    wrong_range: bool = False
    pause: float = 0.0  # after every 256 KiB
    held: threading.Event | None = None  # halfway through, until this is set
    asked: list[str | None] = field(default_factory=list)  # the Range header of each request
    agents: set[str | None] = field(default_factory=set)  # who asked
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.asked.append(asked)
        self.agents.add(request.headers.get("User-Agent"))
        if self.statuses:
            request.send_error(self.statuses.pop(0))
            return
        start = 0
        match = re.fullmatch(r"bytes=(\d+)-", asked or "") if self.ranges else None
        if match:
            start = int(match[1])
            if start >= len(self.content):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(self.content)}")
                request.end_headers()
                return
            request.send_response(206)
            said = start + 7 if self.wrong_range else start
            last = len(self.content) - 1
            request.send_header("Content-Range", f"bytes {said}-{last}/{len(self.content)}")
        else:
            request.send_response(200)
        body = self.content[start:]
        if self.length:
            request.send_header("Content-Length", str(len(body)))
        for name, value in self.headers.items():
            request.send_header(name, value)
        request.end_headers()
        if self.break_after:
            body = body[: self.break_after.pop(0)]
        for i in range(0, len(body), 2**18):
            request.wfile.write(body[i : i + 2**18])
            time.sleep(self.pause)
            if self.held and 2 * i > len(body):
                self.held.wait(120)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with suppress(BrokenPipeError, ConnectionResetError):
                server.answer(self)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server.url = f"http://127.0.0.1:{http.server_port}/{FILE}"
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """``serve(ranges=False, …)`` starts a server that behaves so."""
    with ExitStack() as stack:
        yield lambda **behaviour: stack.enter_context(serving(Server(**behaviour)))


def _archive(url: str, content: bytes = CONTENT, algorithm: str = "sha256"):
    from learndyn.core.archives import Archive

    digest = hashlib.new(algorithm, content).hexdigest()
    return Archive(FILE, url, f"{algorithm}:{digest}", len(content), FOLDER)


def _fetch(server: Server, cache: Path, **options):
    from learndyn.core import downloads

    return downloads.fetch(_archive(server.url), cache=cache, wait=0.0, **options)


def _error():
    from learndyn.core.archives import DataError

    return DataError


def _left(cache: Path) -> set[str]:
    """Visible files of the cache."""
    return {path.name for path in cache.iterdir() if not path.name.startswith(".")}


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_download_is_whole_quiet_and_happens_once(serve, tmp_path, capfd, algorithm):
    from learndyn.core import downloads

    server = serve()
    archive = _archive(server.url, algorithm=algorithm)
    cache = tmp_path / "new" / "cache"
    said = io.StringIO()  # pooch keeps the stderr of its import, which capfd may not be
    handler = logging.StreamHandler(said)
    pooch.get_logger().addHandler(handler)
    try:
        path = downloads.fetch(archive, cache=cache)
        assert not said.getvalue()
        pooch.get_logger().info("as loud as before")
        assert said.getvalue()
    finally:
        pooch.get_logger().removeHandler(handler)
    capfd.readouterr()
    assert path == cache / FILE
    assert path.read_bytes() == CONTENT
    assert downloads.fetch(archive, cache=cache) == path
    assert downloads.fetch(archive, cache=cache, download=False) == path
    assert server.asked == [None]
    assert server.agents == {"learndyn"}
    assert _left(cache) == {FILE}
    assert capfd.readouterr() == ("", "")


def test_the_bar_counts_bytes_and_leaves_nothing(serve, tmp_path, capfd):
    _fetch(serve(pause=0.05), tmp_path, progress=True)
    lines = capfd.readouterr().err.split("\r")
    assert any("MB" in line or "M/" in line for line in lines), lines
    assert not lines[-1].strip()


def test_a_broken_transfer_goes_on_where_it_stopped(serve, tmp_path):
    server = serve(break_after=[2 * 2**20 + 5, 2**19])
    assert _fetch(server, tmp_path).read_bytes() == CONTENT
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in server.asked[1:]]
    assert server.asked[0] is None
    assert len(starts) == 2
    assert 2**20 <= starts[0] <= 2 * 2**20 + 5
    assert starts[0] <= starts[1] <= starts[0] + 2**19
    assert _left(tmp_path) == {FILE}


def test_a_later_call_goes_on_where_an_earlier_one_stopped(serve, tmp_path):
    server = serve(break_after=[2 * 2**20, 0])
    with pytest.raises(
        _error(), match=r"broke off \(2,097,152 of [\d,]+ bytes are kept\); try again, or get"
    ):
        _fetch(server, tmp_path, attempts=2)
    assert _left(tmp_path) == {f"{FILE}.part"}
    assert _fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=2097152-", "bytes=2097152-"]


def test_a_server_that_cannot_resume_sends_it_all_again(serve, tmp_path):
    server = serve(ranges=False, break_after=[2 * 2**20])
    assert _fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=2097152-"]


def test_a_body_without_a_length_that_ends_early_is_not_whole(serve, tmp_path):
    server = serve(length=False, break_after=[2**20])
    assert _fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={2**20}-"]


def test_a_body_that_does_not_end_is_cut_off(serve, tmp_path):
    server = serve(content=CONTENT + bytes(20 * 2**20), length=False, ranges=False)
    with pytest.raises(_error(), match="sent something else") as caught:
        _fetch(server, tmp_path)
    taken = int(re.search(r"got ([\d,]+)", str(caught.value))[1].replace(",", ""))
    assert len(CONTENT) < taken <= len(CONTENT) + 2**20
    assert _left(tmp_path) == set()


@pytest.mark.parametrize("kept", [b"rubbish", CONTENT[:-9] + b"too long, and wrong"])
@pytest.mark.parametrize("ranges", [True, False])
def test_rubbish_in_the_part_is_thrown_away(serve, tmp_path, kept, ranges):
    (tmp_path / f"{FILE}.part").write_bytes(kept)
    server = serve(ranges=ranges)
    assert _fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == ([f"bytes={len(kept)}-", None] if ranges else [f"bytes={len(kept)}-"])


def test_a_complete_part_needs_no_network(serve, tmp_path):
    (tmp_path / f"{FILE}.part").write_bytes(CONTENT)
    server = serve()
    assert _fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == []


def test_a_range_that_was_not_asked_for_is_not_appended(serve, tmp_path):
    (tmp_path / f"{FILE}.part").write_bytes(CONTENT[:1000])
    server = serve(wrong_range=True)
    assert _fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", None]


def test_a_gzip_archive_declared_as_encoding_is_not_unpacked(serve, tmp_path):
    server = serve(headers={"Content-Encoding": "x-gzip"})
    assert _fetch(server, tmp_path).read_bytes() == CONTENT


def test_a_corrupt_file_in_the_cache_is_replaced_or_refused(serve, tmp_path):
    server = serve()
    spoiled = bytearray(CONTENT)
    spoiled[1000] ^= 1
    (tmp_path / FILE).write_bytes(spoiled)
    got = hashlib.sha256(spoiled).hexdigest()
    with pytest.raises(_error(), match=f"corrupt.*expected sha256 [0-9a-f]+, got {got}.*remove it and get"):
        _fetch(server, tmp_path, download=False)
    assert _fetch(server, tmp_path).read_bytes() == CONTENT


def test_wrong_content_is_refused_and_removed(serve, tmp_path):
    wrong = bytes(len(CONTENT))
    server = serve(content=wrong)
    digest = hashlib.sha256(wrong).hexdigest()
    with pytest.raises(_error(), match=f"got {digest}.*removed; get .* by other means and put it into"):
        _fetch(server, tmp_path)
    assert _left(tmp_path) == set()
    assert len(server.asked) == 1


def test_another_file_is_seen_before_it_is_downloaded(serve, tmp_path):
    server = serve(content=b"<html>please log in</html>")
    with pytest.raises(_error(), match=r"another file now \(26 bytes, expected"):
        _fetch(server, tmp_path)
    assert _left(tmp_path) == set()


def test_not_found_is_one_sentence_with_a_way_out(serve, tmp_path):
    server = serve(statuses=[404])
    with pytest.raises(_error()) as caught:
        _fetch(server, tmp_path)
    assert str(caught.value) == (
        f"{FILE} was not downloaded: {server.url} answers 404 Not Found; get {server.url} by other means and "
        f"put it into {tmp_path}"
    )
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again(serve, tmp_path):
    server = serve(statuses=[503, 429])
    assert _fetch(server, tmp_path).read_bytes() == CONTENT
    server = serve(statuses=[503] * 9)
    with pytest.raises(_error(), match="answers 503 Service Unavailable; try again"):
        _fetch(server, tmp_path / "other", attempts=3)
    assert len(server.asked) == 3


def test_no_network(tmp_path):
    with serving(Server()) as server:
        pass
    with pytest.raises(
        _error(), match=r"127\.0\.0\.1 cannot be reached \(is there a network\?\); try again, or"
    ):
        _fetch(server, tmp_path, attempts=2)


def test_without_download_the_network_is_left_alone(serve, tmp_path):
    server = serve()
    with pytest.raises(_error(), match=f"{FILE} is not there; get {server.url} and put it there"):
        _fetch(server, tmp_path, download=False)
    assert server.asked == []
    assert _left(tmp_path) == set()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk(serve, tmp_path):
    (tmp_path / f"{FILE}.part").symlink_to("/dev/full")
    with pytest.raises(
        _error(), match=f"the disk of .* is full: {FILE} has [0-9,]+ bytes; make room"
    ) as caught:
        _fetch(serve(), tmp_path)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert FILE not in _left(tmp_path)


def test_a_cache_that_is_a_file(serve, tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(_error(), match=r"the cache folder .* cannot be used: .*; name another one"):
        _fetch(serve(), tmp_path / "cache")


# Python ignores SIGINT where its parent does, as a shell that starts it in the background may.
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from learndyn.core import archives, downloads
file, url, checksum, size, folder, cache = sys.argv[1:]
downloads.fetch(archives.Archive(file, url, checksum, int(size), folder), cache=cache)
"""


def _start(server: Server, cache: Path) -> subprocess.Popen[bytes]:
    archive = _archive(server.url)
    words = (archive.file, archive.url, archive.checksum, str(archive.size), archive.folder, str(cache))
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *words], stderr=subprocess.DEVNULL)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_process_leaves_a_part_that_the_next_one_uses(serve, tmp_path, end):
    server = serve(held=threading.Event())
    part = tmp_path / f"{FILE}.part"
    process = _start(server, tmp_path)
    deadline = time.monotonic() + 120
    while not (part.exists() and part.stat().st_size):
        assert process.poll() is None
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.01)
    process.send_signal(end)
    assert process.wait(60) != 0
    server.held.set()
    size = part.stat().st_size
    assert 0 < size < len(CONTENT)
    assert not (tmp_path / FILE).exists()
    assert _fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={size}-"]


def test_two_that_want_it_at_once_download_it_once(serve, tmp_path):
    server = serve(pause=0.02)
    results: list[Path] = []
    threads = [threading.Thread(target=lambda: results.append(_fetch(server, tmp_path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() == CONTENT for path in results] == [True] * 3
    assert server.asked == [None]


NAMES = {name: len(content) for name, content in LETTERS.items()}


def _read(location: Path, names: dict[str, int] = NAMES) -> dict[str, bytes]:
    from learndyn.core import archives

    archive = _archive("http://x/letters.tar.gz")
    return {name: stream.read() for name, stream in archives.open_files(location, archive, names)}


def _locate(directory: Path, names: dict[str, int] = NAMES) -> Path:
    from learndyn.core import archives

    return archives.locate(directory, _archive("http://x/letters.tar.gz"), names)


def _unpack(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in LETTERS.items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("where", ["archive", "folder in it", "folder itself"])
def test_files_are_found_in_a_directory_and_read(tmp_path, where):
    if where == "archive":
        (tmp_path / FILE).write_bytes(CONTENT)
    else:
        _unpack(tmp_path / FOLDER if where == "folder in it" else tmp_path)
    assert _read(_locate(tmp_path)) == LETTERS
    assert _read(_locate(tmp_path), {"c.txt": 4}) == {"c.txt": b"see\n"}


def test_reading_an_archive_writes_nothing_and_leaves_out_what_lies_elsewhere(tmp_path):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, kind in (("../a.bin", tarfile.REGTYPE), ("other/a.bin", tarfile.REGTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, 3
            tar.addfile(member, io.BytesIO(b"bad"))
        link = tarfile.TarInfo(f"{FOLDER}/a.bin")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        member = tarfile.TarInfo(f"./{FOLDER}/a.bin")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"good"))
    (tmp_path / FILE).write_bytes(out.getvalue())
    assert _read(tmp_path / FILE, {"a.bin": 4}) == {"a.bin": b"good"}
    assert os.listdir(tmp_path) == [FILE]


def test_a_directory_without_the_files_says_what_was_looked_for(tmp_path):
    with pytest.raises(_error()) as caught:
        _locate(tmp_path)
    assert str(caught.value) == (
        f"the data directory {tmp_path} has neither letters.tar.gz nor, in itself or in letters, the files "
        "a.bin, b.bin, c.txt; get http://x/letters.tar.gz"
    )
    _unpack(tmp_path / FOLDER)
    (tmp_path / FOLDER / "b.bin").unlink()
    with pytest.raises(_error(), match=r"a\.bin, b\.bin, c\.txt, of which b\.bin is missing; get"):
        _locate(tmp_path)
    with pytest.raises(_error(), match="is not there, or not a folder"):
        _locate(tmp_path / "nowhere")


def test_a_truncated_archive_in_a_directory(tmp_path):
    (tmp_path / FILE).write_bytes(CONTENT[:-100])
    size = len(CONTENT)
    message = f"incomplete \\(expected {size:,} bytes, got {size - 100:,}\\); remove it"
    with pytest.raises(_error(), match=message):
        _locate(tmp_path)


def test_an_archive_of_something_else_in_a_directory(tmp_path):
    (tmp_path / FILE).write_bytes(_tar({"a.bin": b"?"}, "pickles"))
    with pytest.raises(_error(), match="another archive \\(it holds 'pickles', not 'letters'\\); replace it"):
        _locate(tmp_path)


def test_files_of_another_size_or_missing_from_the_archive(tmp_path):
    _unpack(tmp_path)
    with pytest.raises(
        _error(), match=r"b\.bin in .* has 1,024 bytes and should have 1,025: it is incomplete"
    ):
        _read(tmp_path, {"b.bin": 1025})
    (tmp_path / FILE).write_bytes(CONTENT)
    with pytest.raises(_error(), match=r"b\.bin in .* has 1,024 bytes and should have 7: "):
        _read(tmp_path / FILE, {"b.bin": 7})
    with pytest.raises(_error(), match=r"has no d\.bin: it is not the archive http"):
        _read(tmp_path / FILE, {"a.bin": NAMES["a.bin"], "d.bin": 3})
