"""Published archives on disk: is it the right one, where is it, and its files, read without unpacking.

Nothing is unpickled and nothing is written: `open_files` reads from the archive, front to back.
"""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path, PurePosixPath

import pooch

from learndyn.core.errors import PlainError

#: What reading a damaged archive or a bad disk raises.
READ_ERRORS = (OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile)


class DataError(PlainError):
    """Data that are not there, not reachable or not what they should be; the message says what to do."""


@dataclass(frozen=True)
class Archive:
    """A published archive: zip if its name on disk ends so, else gzipped tar.

    Args:
        file: its name on disk.
        checksum: ``"<algorithm>:<hexadecimal digits>"``, any algorithm of hashlib.
        size: in bytes.
        folder: the one folder that it holds.
    """

    file: str
    url: str
    checksum: str
    size: int
    folder: str


def verify(path: Path, archive: Archive) -> None:
    """Check that a file is that archive, to the last byte.

    Raises:
        DataError: it is not there, it is corrupt or incomplete, or it is another archive.
    """
    difference = mismatch(path, archive)
    if difference is None:
        return
    if not path.is_file():
        raise DataError(f"{path} is not there; get {archive.url} and put it there, or let it be downloaded")
    holds = _first_folder(path)
    if holds not in (None, archive.folder):
        raise DataError(
            f"{path} is another archive (it holds {holds!r}, not {archive.folder!r}); "
            f"replace it by {archive.url}"
        )
    raise DataError(f"{path} is corrupt or incomplete ({difference}); remove it and get {archive.url} again")


def locate(directory: Path | str, archive: Archive, names: Mapping[str, int | None]) -> Path:
    """Where in a user's directory the files ``names`` are: the folder that has them, or the archive, checked.

    Unpacked files are looked for in the archive's folder below ``directory``, then in ``directory`` itself.

    Args:
        names: file names (and their sizes, for `open_files`).

    Raises:
        DataError: there is no such directory, none of them is in it, or the archive is not as published.
    """
    directory = Path(directory).expanduser()
    if not directory.is_dir():
        raise DataError(f"the data directory {directory} is not there, or not a folder")
    missing: list[str] = list(names)
    for folder in (directory / archive.folder, directory):
        absent = [name for name in names if not (folder / name).is_file()]
        if not absent:
            return folder
        missing = min(missing, absent, key=len)
    path = directory / archive.file
    if path.is_file():
        try:
            verify(path, archive)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        return path
    lacking = "" if len(missing) == len(names) else f", of which {_listed(missing)} is missing"
    raise DataError(
        f"the data directory {directory} has neither {archive.file} nor, in itself or in {archive.folder}, "
        f"the files {_listed(list(names))}{lacking}; get {archive.url}"
    )


def open_files(
    location: Path, archive: Archive, names: Mapping[str, int | None]
) -> Iterator[tuple[str, BufferedIOBase]]:
    """Open files one after another, in the order in which they come, each to be read at once and in full.

    Args:
        location: what `fetch` or `locate` gave: the archive (read from front to back, no further than
            needed, nothing is written to disk) or a folder with the files.
        names: file names with the sizes that they must have, in bytes; None: any size.

    Raises:
        DataError: a file is missing or has another size.
        OSError, EOFError, zlib.error, tarfile.TarError, zipfile.BadZipFile: damage (`READ_ERRORS`).
    """
    if not location.is_file():
        opened = _open_plain(location, names)
    elif _is_zip(archive):
        opened = _open_zip(location, archive, names)
    else:
        opened = _open_tar(location, archive, names)
    found = set()
    for name, size, stream in opened:
        if names[name] not in (None, size):
            raise DataError(
                f"{name} in {location} has {size:,} bytes and should have {names[name]:,}: it is incomplete "
                f"or another file; get {archive.url} again"
            )
        found.add(name)
        yield name, stream
        if len(found) == len(names):
            return
    missing = [name for name in names if name not in found]
    raise DataError(f"{location} has no {_listed(missing)}: it is not the archive {archive.url}")


def _is_zip(archive: Archive) -> bool:
    return archive.file.endswith(".zip")


def _open_tar(
    path: Path, archive: Archive, names: Mapping[str, int | None]
) -> Iterator[tuple[str, int, BufferedIOBase]]:
    with tarfile.open(path, "r:gz") as tar:
        for member in tar:
            stream = tar.extractfile(member) if member.isreg() else None
            name = _wanted(member.name, archive, names)
            if stream is not None and name is not None:
                yield name, member.size, stream


def _open_zip(
    path: Path, archive: Archive, names: Mapping[str, int | None]
) -> Iterator[tuple[str, int, BufferedIOBase]]:
    with zipfile.ZipFile(path) as packed:
        for member in packed.infolist():
            name = _wanted(member.filename, archive, names)
            if name is not None and not member.is_dir():
                with packed.open(member) as stream:
                    yield name, member.file_size, stream


def _wanted(member: str, archive: Archive, names: Mapping[str, int | None]) -> str | None:
    """The name of a file that is looked for, from its path in an archive; None for any other path."""
    path = PurePosixPath(member)
    return path.name if str(path.parent) == archive.folder and path.name in names else None


def _open_plain(folder: Path, names: Mapping[str, int | None]) -> Iterator[tuple[str, int, BufferedIOBase]]:
    for name in names:
        with (folder / name).open("rb") as stream:
            yield name, (folder / name).stat().st_size, stream


def mismatch(path: Path, archive: Archive) -> str | None:
    """What tells a file from the archive, in words; None if nothing does."""
    if not path.is_file():
        return "it is not there"
    size = path.stat().st_size
    if size != archive.size:
        return f"expected {archive.size:,} bytes, got {size:,}"
    algorithm, expected = archive.checksum.split(":")
    got = pooch.file_hash(str(path), alg=algorithm)
    return None if got == expected else f"expected {algorithm} {expected}, got {got}"


def _first_folder(path: Path) -> str | None:
    """The folder of the first file in an archive of either kind; None if it cannot be read as one."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                first = next(iter(packed.namelist()), "")
        else:
            with tarfile.open(path, "r:*") as tar:
                member = tar.next()
                first = member.name if member is not None else ""
    except READ_ERRORS:
        return None
    return PurePosixPath(first).parts[0] if PurePosixPath(first).parts else None


def _listed(names: list[str]) -> str:
    return ", ".join(names)
