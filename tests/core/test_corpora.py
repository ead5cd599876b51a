"""Texts: the embedded ones against plain loops; WikiText as a tiny archive of the same format."""

from __future__ import annotations

import hashlib
import inspect
import io
import subprocess
import sys
import sysconfig
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

TEXTS = {
    "train": " \n = Robert <unk> = \n \n Robert 's café ( 2000 ) ; \n" * 3,
    "valid": " \n = Du Fu = \n",
    "test": " \n = Test = \n",
}


def _error():
    from learndyn.core.archives import DataError

    return DataError


def _plain_paragraphs(text: str) -> list[str]:
    """Runs of lines without a blank one between two others; the newlines at both ends of a text stay."""
    lines = text.split("\n")
    found: list[list[str]] = [[]]
    for i, line in enumerate(lines):
        if line.strip() or i in (0, len(lines) - 1):
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return ["\n".join(lines) for lines in found if any(line.strip() for line in lines)]


def test_topics_are_the_help_pages_in_order_without_repetition():
    from pydoc_data.topics import topics

    from learndyn.core import corpora, text

    kept: list[str] = []
    seen: set[str] = set()
    for key in sorted(topics):
        for paragraph in _plain_paragraphs(topics[key]):
            if paragraph not in seen:
                seen.add(paragraph)
                kept.append(paragraph)
    found = corpora.corpus("topics")
    assert found.validation == [p for i, p in enumerate(kept) if i % 10 == 0]
    assert found.train == [p for i, p in enumerate(kept) if i % 10]
    assert found.name == "topics"
    assert found.test is None
    train, validation = (len(list(text.tokens(lines))) for lines in (found.train, found.validation))
    types = len(text.Vocabulary.build(text.tokens(found.train))) - 1
    if sys.version_info[:2] == (3, 11) and len("".join(topics.values())) == 464_970:
        assert (train, validation, types) == (59_746, 6_505, 4_490)
    assert 50_000 < train < 80_000
    assert 5_000 < validation < 8_000
    assert 4_000 < types < 6_000


def test_docstrings_of_a_small_library(tmp_path):
    from learndyn.core import corpora

    sources = {
        "b.py": '"""Module b.\n\nSame."""\nclass C:\n    """C of b."""\n    def f(self):\n        "f of C"\n',
        "a/z.py": 'import nothing\nif 1:\n    async def g():\n        r"""\\d Same.\n\n    Same."""\n',
        "a/__init__.py": "1 / 0\n",
        "a/test/x.py": '"""A test."""',
        "tests/x.py": '"""A test."""',
        "site-packages/x.py": '"""Not ours."""',
        "broken.py": '"""Not Python',
        "escape.py": '"""Odd \\d escape."""',
        "latin.py": b'# -*- coding: latin-1 -*-\n"""Caf\xe9."""',
    }
    for name, source in sources.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source if isinstance(source, bytes) else source.encode())
    found = corpora.docstrings(tmp_path)
    assert [*found.validation, *found.train] == [
        "\\d Same.", "Same.", "Module b.", "C of b.", "f of C", "Odd \\d escape.", "Café.",
    ]  # fmt: skip
    assert found.validation == ["\\d Same."]


def test_docstrings_of_a_real_package_are_those_that_python_shows():
    import json.decoder
    import json.encoder
    import json.scanner

    from learndyn.core import corpora

    found = corpora.docstrings(Path(json.__file__).parent)
    paragraphs = {*found.train, *found.validation}
    for thing in (json, json.dumps, json.loads, json.decoder.JSONDecoder, json.encoder.JSONEncoder.default):
        assert set(_plain_paragraphs(inspect.getdoc(thing))) <= paragraphs


@pytest.mark.full
def test_docstrings_of_this_python():
    from learndyn.core import corpora, text

    found = corpora.corpus("docstrings")
    train, validation = (len(list(text.tokens(lines))) for lines in (found.train, found.validation))
    assert 200_000 < train < 500_000
    assert 8 < train / validation < 10
    first = text.Vocabulary.build(text.tokens(found.train)).types[1:4]
    assert set(first) == {".", "the", ","}
    assert len({*found.train, *found.validation}) == len(found.train) + len(found.validation)


def test_a_python_without_sources_or_help_pages(tmp_path, monkeypatch):
    from learndyn.core import corpora

    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path / "python311.zip"))
    with pytest.raises(
        _error(), match=r"^there are no sources of the standard library in .*python311\.zip; choose"
    ):
        corpora.corpus("docstrings")
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(_error(), match=r"^this Python comes without pydoc_data\.topics; install"):
        corpora.corpus("topics")


def test_nothing_is_read_at_import():
    program = (
        "import sys; from learndyn.core import corpora, text; "
        "sys.exit('pydoc_data' in sys.modules or 'pydoc_data.topics' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def _zip(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("wikitext-2/", b"")
        for name, content in files.items():
            packed.writestr(f"wikitext-2/{name}", content)
    return out.getvalue()


def _archive(content: bytes, url: str = "http://x/wikitext-2-v1.zip"):
    from learndyn.core.corpora import WIKITEXT2

    checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return replace(WIKITEXT2, url=url, checksum=checksum, size=len(content))


def _files(ending: str = ".tokens") -> dict[str, bytes]:
    return {f"wiki.{split}{ending}": text.encode() for split, text in TEXTS.items()}


CONTENT = _zip(_files())


def _put(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def address(tmp_path, monkeypatch) -> Iterator[str]:
    """Of a server on loopback with the archive."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    served = _put(tmp_path / "served", {"wikitext-2-v1.zip": CONTENT})
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/wikitext-2-v1.zip"
        finally:
            http.shutdown()
            thread.join()


def _check(found) -> None:
    """The lines are those of the files, as often as one asks, blank ones left out."""
    for _ in range(2):
        for split, name in (("train", "train"), ("valid", "validation"), ("test", "test")):
            lines = [line for line in TEXTS[split].splitlines(keepends=True) if line.strip()]
            assert list(getattr(found, name)) == lines
    assert found.name == "wikitext-2"


def test_wikitext_is_downloaded_once(address, tmp_path, monkeypatch):
    from learndyn.core import corpora, text

    archive = _archive(CONTENT, address)
    found = corpora.wikitext(archive, cache=tmp_path / "cache")
    _check(found)
    assert {p.name for p in (tmp_path / "cache").iterdir() if p.suffix == ".zip"} == {"wikitext-2-v1.zip"}
    (tmp_path / "served" / "wikitext-2-v1.zip").unlink()
    monkeypatch.setattr(corpora, "_PUBLISHED", {"wikitext2": archive})
    again = corpora.corpus("wikitext2", cache=tmp_path / "cache", download=False)
    _check(again)
    data = text.language_data(again, train_columns=2, validation_columns=1)
    assert data.vocabulary.types == ("<unk>", "=", "robert", "'", "(", ")", "2000", "café", "s")
    line = "= robert <unk> = robert ' s café ( 2000 )"
    expected = f"{line} {line} {line}".split()[:-1]  # 33 tokens in 2 columns
    assert data.vocabulary.decode(data.train.ids.flatten()) == expected
    with pytest.raises(_error(), match="is not there; get http://127"):
        corpora.wikitext(archive, cache=tmp_path / "other", download=False)


@pytest.mark.parametrize("ending", [".tokens", ".txt"])
@pytest.mark.parametrize("where", ["", "wikitext-2"])
def test_wikitext_in_a_directory(tmp_path, ending, where):
    from learndyn.core import corpora

    _put(tmp_path / where, _files(ending))
    _check(corpora.wikitext(_archive(CONTENT), tmp_path))
    _check(corpora.corpus("wikitext2", str(tmp_path)))


def test_the_archive_in_a_directory(tmp_path):
    from learndyn.core import corpora

    _put(tmp_path, {"wikitext-2-v1.zip": CONTENT})
    _check(corpora.wikitext(_archive(CONTENT), tmp_path))
    with pytest.raises(
        _error(), match=rf"is corrupt or incomplete \(expected 4,475,746 bytes, got {len(CONTENT):,}\)"
    ):
        corpora.corpus("wikitext2", tmp_path)


@pytest.mark.parametrize("ending", [".tokens", ".txt"])
def test_a_directory_without_the_files_names_what_is_missing(tmp_path, ending):
    from learndyn.core import corpora

    with pytest.raises(_error()) as caught:
        corpora.corpus("wikitext2", tmp_path)
    assert str(caught.value) == (
        f"the data directory {tmp_path} has neither wikitext-2-v1.zip nor, in itself or in wikitext-2, the "
        "files wiki.train.tokens, wiki.valid.tokens, wiki.test.tokens; get "
        "https://wikitext.smerity.com/wikitext-2-v1.zip"
    )
    files = _files(ending)
    del files[f"wiki.valid{ending}"]
    _put(tmp_path, files)
    with pytest.raises(_error(), match=rf"of which wiki\.valid{ending} is missing; get"):
        corpora.corpus("wikitext2", tmp_path)
    with pytest.raises(_error(), match="is not there, or not a folder"):
        corpora.corpus("wikitext103", tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b" \n \n"])
def test_an_empty_file(tmp_path, content):
    from learndyn.core import corpora, text

    _put(tmp_path, _files() | {"wiki.train.tokens": content})
    with pytest.raises(_error(), match=r"^wiki\.train\.tokens in .* is empty; get https"):
        text.language_data(corpora.corpus("wikitext2", tmp_path))


def test_a_file_that_is_not_utf8(tmp_path):
    from learndyn.core import corpora, text

    _put(tmp_path, _files() | {"wiki.train.tokens": "fine\n\ncafé\n".encode("latin-1")})
    found = corpora.corpus("wikitext2", tmp_path)
    with pytest.raises(
        _error(), match=r"^wiki\.train\.tokens in .* is not UTF-8 text \(line 3 has the byte 0xe9\)"
    ):
        text.language_data(found)


def test_archives_that_are_not_right(tmp_path):
    from learndyn.core import corpora

    path = tmp_path / "wikitext-2-v1.zip"
    cut = CONTENT[:-30]
    path.write_bytes(cut)
    with pytest.raises(_error(), match="is corrupt or incomplete"):
        corpora.wikitext(_archive(CONTENT), tmp_path)
    with pytest.raises(_error(), match="cannot be read to the end"):  # as published, but damaged
        list(corpora.wikitext(_archive(cut), tmp_path).train)
    spoiled = bytearray(CONTENT)
    middle = CONTENT.index(b"wiki.train.tokens") + 40
    spoiled[middle] ^= 0xFF
    path.write_bytes(spoiled)
    with pytest.raises(_error(), match="cannot be read to the end"):
        list(corpora.wikitext(_archive(bytes(spoiled)), tmp_path).train)
    without = _zip({"wiki.valid.tokens": b"x", "wiki.test.tokens": b"x"})
    path.write_bytes(without)
    with pytest.raises(_error(), match=r"has no wiki\.train\.tokens: it is not the archive"):
        list(corpora.wikitext(_archive(without), tmp_path).train)


def test_names_that_are_no_text(tmp_path):
    from learndyn.core import corpora

    with pytest.raises(_error()) as caught:
        corpora.corpus("wikitext")
    assert str(caught.value) == (
        "there is no text 'wikitext'; choose one of 'topics', 'docstrings', 'wikitext2', 'wikitext103'"
    )
    with pytest.raises(
        _error(), match=r"^the text 'topics' comes with Python and is not read from a directory"
    ):
        corpora.corpus("topics", tmp_path)
