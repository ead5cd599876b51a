"""Published archives: downloaded once, resumed after any interruption, never used unless every byte is right.

pooch keeps the cache and checks what it hands out, but deletes what a broken transfer had got. The downloader
here keeps that in ``<name>.part`` beside the target, in any process and after any kind of end, and asks the
server for the rest.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pooch
import requests
import urllib3
from filelock import FileLock
from tqdm import tqdm

from learndyn.core.archives import Archive, DataError, mismatch, verify
from learndyn.core.ensemble import progress_bar

_CHUNK = 2**20
_TIMEOUT = (10, 60)  # seconds to connect, and without a byte
_AGENT = {"User-Agent": "learndyn"}  # some servers turn away what Python calls itself
_BUSY = (408, 425, 429, 500, 502, 503, 504)  # answers that may differ a moment later


class _BrokenOffError(Exception):
    """A transfer that ended early and may be gone on with."""


def default_cache() -> Path:
    """The folder of downloads: the operating system's place for caches, ``learndyn`` in it."""
    return Path(pooch.os_cache("learndyn"))


def fetch(
    archive: Archive,
    *,
    cache: Path | str | None = None,
    download: bool = True,
    progress: bool = False,
    attempts: int = 4,
    wait: float = 1.0,
) -> Path:
    """The archive in the cache folder, downloaded if it is not there whole.

    A transfer that breaks off is gone on with, up to ``attempts`` times with growing pauses, and by the next
    call after that or after a kill. A server that cannot do so sends it all again. Two processes that want
    the same archive download it once.

    Args:
        cache: the folder to look in and to download to; None means `default_cache`.
        download: False: never use the network.
        progress: show a bar while downloading.
        wait: pause before the second attempt, in seconds; it doubles from there on.

    Raises:
        DataError: no network, an answer other than the archive, a full disk, a cache that cannot be written;
            without ``download``, an archive that is not there or not whole.
    """
    cache = default_cache() if cache is None else Path(cache).expanduser()
    path = cache / archive.file
    try:
        if mismatch(path, archive) is None:  # before anything is written: a shared cache may be read-only
            return path
        if not download:
            verify(path, archive)
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{archive.file}.lock"), _silent_pooch():
            downloader = _downloader(archive, cache, progress=progress, attempts=attempts, wait=wait)
            known = {"known_hash": archive.checksum, "fname": archive.file, "path": cache}
            return Path(pooch.retrieve(archive.url, downloader=downloader, **known))
    except OSError as error:
        raise DataError(_refused(error, archive, cache)) from error


def _downloader(
    archive: Archive, cache: Path, *, progress: bool, attempts: int, wait: float
) -> Callable[[str, str, object], None]:
    """What pooch calls with the address and a temporary file to fill."""

    def download(url: str, output_file: str, pooch_: object) -> None:
        part = cache / f"{archive.file}.part"
        with progress_bar(archive.size, show=progress, unit="B") as bar:
            for attempt in range(attempts):
                time.sleep(wait * 2 ** (attempt - 1) if attempt else 0)
                try:
                    whole = _attempt(archive, part, bar)
                except _BrokenOffError as error:
                    failure = str(error)
                    continue
                if whole:
                    part.replace(output_file)
                    return
                failure = "what had been kept of an earlier download was of no use"
        raise DataError(
            f"{archive.file} was not downloaded: {failure}; try again, or {_by_hand(archive, cache)}"
        )

    return download


def _attempt(archive: Archive, part: Path, bar: tqdm) -> bool:
    """Go on with ``part``; True if it is the archive now, False if what it began with has to go (and went).

    Raises:
        _BrokenOffError: there is more to come.
        DataError: the server has something else.
    """
    try:
        resumed = _transfer(archive, part, bar)
    except requests.HTTPError as error:
        answer = f"{archive.url} answers {error.response.status_code} {error.response.reason}"
        if error.response.status_code in _BUSY:
            raise _BrokenOffError(answer) from error
        raise DataError(
            f"{archive.file} was not downloaded: {answer}; {_by_hand(archive, part.parent)}"
        ) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise _BrokenOffError(_reason(error, archive, part)) from error
    size = part.stat().st_size
    if size < archive.size:
        raise _BrokenOffError(f"the connection ended after {size:,} of {archive.size:,} bytes")
    difference = mismatch(part, archive)
    if difference is None:
        return True
    part.unlink(missing_ok=True)
    if resumed:
        return False
    raise DataError(
        f"{archive.url} sent something else ({difference}), which was removed; "
        f"{_by_hand(archive, part.parent)}"
    )


def _transfer(archive: Archive, part: Path, bar: tqdm) -> bool:
    """Append the missing bytes to ``part``, or fill it anew; True if it kept what was there.

    The body is taken as it is sent: servers that call a .tar.gz "content encoding gzip" would otherwise have
    it unpacked on the way.
    """
    offset = part.stat().st_size if part.exists() else 0
    if offset == archive.size:  # stopped between the last byte and the check
        return True
    headers = _AGENT | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    with requests.get(archive.url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == 416:  # nothing there from that byte on
            part.unlink(missing_ok=True)
            raise _BrokenOffError(f"{archive.url} has no byte {offset:,}")
        response.raise_for_status()
        begins = response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
        if response.status_code == 206 and not begins:
            part.unlink(missing_ok=True)
            raise _BrokenOffError(f"{archive.url} sent another range than asked for")
        if response.status_code != 206:
            offset = 0
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and offset + int(length) != archive.size:
            raise DataError(
                f"{archive.url} is another file now ({offset + int(length):,} bytes, expected "
                f"{archive.size:,}); {_by_hand(archive, part.parent)}"
            )
        bar.reset(archive.size)
        bar.initial = bar.n = offset
        with part.open("ab" if offset else "wb") as file:
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                file.write(chunk)
                bar.update(len(chunk))
                offset += len(chunk)
                if offset > archive.size:  # without a length, and it does not end
                    break
    return response.status_code == 206


def _reason(error: Exception, archive: Archive, part: Path) -> str:
    host = urlsplit(archive.url).hostname
    got = part.stat().st_size if part.exists() else 0
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)):
        return f"{host} does not answer ({got:,} of {archive.size:,} bytes are kept)"
    if isinstance(error, requests.ConnectionError):
        return f"{host} cannot be reached (is there a network?)"
    return f"the connection broke off ({got:,} of {archive.size:,} bytes are kept)"


def _refused(error: OSError, archive: Archive, cache: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"the disk of {cache} is full: {archive.file} has {archive.size:,} bytes; make room and try "
            "again, what has come so far is kept"
        )
    return f"the cache folder {cache} cannot be used: {error.strerror or error}; name another one"


def _by_hand(archive: Archive, cache: Path) -> str:
    return f"get {archive.url} by other means and put it into {cache}"


@contextmanager
def _silent_pooch() -> Iterator[None]:
    """Pooch writes to stderr what it does; here the bar says it.

    Not by its level: the logger is none of logging's own, and would never notice that the level is back.
    """
    logger = pooch.get_logger()
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
