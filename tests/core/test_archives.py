"""Zip archives that are right, not right and not harmless (tar archives: see the tests of downloads)."""

from __future__ import annotations

import hashlib
import io
import os
import random
import zipfile

import pytest

FOLDER = "letters"
LETTERS = {"a.bin": random.Random(0).randbytes(2**16), "b.bin": bytes(1024), "c.txt": b"see\n"}
NAMES = {name: len(content) for name, content in LETTERS.items()}


def _zip(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return out.getvalue()


def _zip_archive(content: bytes):
    from learndyn.core.archives import Archive

    digest = hashlib.sha256(content).hexdigest()
    return Archive("letters.zip", "http://x/letters.zip", f"sha256:{digest}", len(content), FOLDER)


ZIPPED = _zip({f"{FOLDER}/": b""} | {f"{FOLDER}/{name}": content for name, content in LETTERS.items()})


def _error():
    from learndyn.core.archives import DataError

    return DataError


def test_a_zip_archive_is_found_and_read(tmp_path):
    from learndyn.core import archives

    archive, path = _zip_archive(ZIPPED), tmp_path / "letters.zip"
    path.write_bytes(ZIPPED)
    assert archives.locate(tmp_path, archive, NAMES) == path
    opened = archives.open_files(path, archive, NAMES)
    assert {name: stream.read() for name, stream in opened} == LETTERS
    for name, content in LETTERS.items():
        (tmp_path / name).write_bytes(content)
    for location in (path, archives.locate(tmp_path, archive, {"c.txt": None})):
        opened = archives.open_files(location, archive, {"c.txt": None})
        assert [(name, stream.read()) for name, stream in opened] == [("c.txt", b"see\n")]
    with pytest.raises(_error(), match=r"b\.bin in .*letters\.zip has 1,024 bytes and should have 7: "):
        list(archives.open_files(path, archive, {"b.bin": 7}))


def test_reading_a_zip_archive_writes_nothing_and_leaves_out_what_lies_elsewhere(tmp_path):
    from learndyn.core import archives

    bad = dict.fromkeys(["../a.bin", "/etc/a.bin", "other/a.bin", f"{FOLDER}/../a.bin", "a.bin"], b"bad")
    content = _zip(bad | {f"{FOLDER}/a.bin/": b"", f"{FOLDER}/a.bin": b"good"})
    path = tmp_path / "letters.zip"
    path.write_bytes(content)
    opened = archives.open_files(path, _zip_archive(content), {"a.bin": None})
    assert [(name, stream.read()) for name, stream in opened] == [("a.bin", b"good")]
    assert os.listdir(tmp_path) == ["letters.zip"]


def test_a_zip_archive_of_something_else_or_damaged(tmp_path):
    from learndyn.core import archives

    archive, path = _zip_archive(ZIPPED), tmp_path / "letters.zip"
    path.write_bytes(_zip({"pickles/a.bin": b"?"}))
    with pytest.raises(_error(), match="another archive \\(it holds 'pickles', not 'letters'\\); replace it"):
        archives.locate(tmp_path, archive, NAMES)
    for content in (b"", b"<html>", _zip({}), ZIPPED[:-100]):
        path.write_bytes(content)
        with pytest.raises(_error(), match=r"is corrupt or incomplete \(expected"):
            archives.locate(tmp_path, archive, NAMES)
    spoiled = bytearray(ZIPPED)
    spoiled[10_000] ^= 0xFF
    path.write_bytes(spoiled)
    with pytest.raises(archives.READ_ERRORS):
        [stream.read() for _, stream in archives.open_files(path, archive, {"a.bin": None})]
