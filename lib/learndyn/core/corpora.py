"""Texts to train language models on, as lines: what comes with every Python, and WikiText.

There without a network: `topics` (the help pages of Python's own ``pydoc``) and `docstrings` (those of its
standard library). Published: `wikitext` (Merity et al. 2017, "Pointer Sentinel Mixture Models"), downloaded
once or read from a directory of the user. Nothing is read at import; `core.text` makes tokens of the lines.
"""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

from learndyn.core.archives import READ_ERRORS, Archive, DataError, locate, open_files
from learndyn.core.downloads import fetch

WIKITEXT2 = Archive(
    file="wikitext-2-v1.zip",
    url="https://wikitext.smerity.com/wikitext-2-v1.zip",
    checksum="sha256:92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
    size=4_475_746,
    folder="wikitext-2",
)
WIKITEXT103 = Archive(
    file="wikitext-103-v1.zip",
    url="https://wikitext.smerity.com/wikitext-103-v1.zip",
    checksum="sha256:242ba0f20b329cfdf1ccc61e9e9e5b59becf189db7f7a81cd2a0e2fc31539590",
    size=190_229_076,
    folder="wikitext-103",
)

_EMBEDDED = ("topics", "docstrings")
_PUBLISHED = {"wikitext2": WIKITEXT2, "wikitext103": WIKITEXT103}
_SPLITS = ("train", "valid", "test")
_VALIDATION_EVERY = 10  # paragraphs
_BLANK_LINES = re.compile(r"\n\s*\n")
#: Folders of the standard library that hold tests, other people's packages, or no text of its own.
_SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "_bundled", "__pycache__"}


@dataclass(frozen=True)
class Corpus:
    """A text in its splits, each as lines that can be read more than once.

    Args:
        name: of the text.
        train, validation, test: lines (or whole paragraphs); None where there is no such split.
    """

    name: str
    train: Iterable[str]
    validation: Iterable[str]
    test: Iterable[str] | None = None


@dataclass(frozen=True)
class FileLines:
    """The lines of one text file, which may lie in an archive, read anew, line by line, each time.

    Iterating raises DataError if the file is damaged, empty or not UTF-8.

    Args:
        location: the archive or a folder, as `fetch` or `locate` gave it.
        name: of the file.
    """

    location: Path
    archive: Archive
    name: str

    def __iter__(self) -> Iterator[str]:
        try:
            for _, stream in open_files(self.location, self.archive, {self.name: None}):
                yield from self._lines(stream)
        except READ_ERRORS as error:
            raise DataError(
                f"{self.name} in {self.location} cannot be read to the end ({error}); get {self.archive.url}"
            ) from error

    def _lines(self, stream: BufferedIOBase) -> Iterator[str]:
        empty = True
        for number, line in enumerate(stream, 1):
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{self.name} in {self.location} is not UTF-8 text (line {number:,} has the byte "
                    f"0x{line[error.start]:02x}); convert it, or get {self.archive.url}"
                ) from error
            if not text.isspace():
                empty = False
                yield text
        if empty:
            raise DataError(f"{self.name} in {self.location} is empty; get {self.archive.url}")


def corpus(
    name: str,
    directory: Path | str | None = None,
    *,
    download: bool = True,
    progress: bool = False,
    cache: Path | str | None = None,
) -> Corpus:
    """The text of that name: ``"topics"``, ``"docstrings"``, ``"wikitext2"`` or ``"wikitext103"``.

    Args:
        directory, download, progress, cache: of WikiText, as for `wikitext`.

    Raises:
        DataError: an unknown name, a directory for a text that comes with Python; as `topics`, `docstrings`,
            `wikitext`.
    """
    if name in _PUBLISHED:
        options = {"download": download, "progress": progress, "cache": cache}
        return wikitext(_PUBLISHED[name], directory, **options)
    if name not in _EMBEDDED:
        known = ", ".join(map(repr, (*_EMBEDDED, *_PUBLISHED)))
        raise DataError(f"there is no text {name!r}; choose one of {known}")
    if directory is not None:
        raise DataError(
            f"the text {name!r} comes with Python and is not read from a directory; leave {directory} out, "
            "or choose 'wikitext2' or 'wikitext103'"
        )
    return topics() if name == "topics" else docstrings()


def topics() -> Corpus:
    """The help pages of Python's ``pydoc`` (`pydoc_data.topics`), reference English of 66,000 tokens.

    The topics in alphabetical order, cut into paragraphs at blank lines; of equal paragraphs the first; every
    10th, from the first on, is for validation. Other versions of Python have a slightly different text.
    In CPython 3.11 that makes 59,746 training and 6,505 validation tokens, 4,490 types in the former.

    Raises:
        DataError: this Python has no help pages.
    """
    try:
        from pydoc_data.topics import topics as pages  # 450 kB, only wanted here
    except ImportError as error:
        raise DataError(
            "this Python comes without pydoc_data.topics; install the complete standard library, or choose "
            "the text 'wikitext2'"
        ) from error
    return _in_paragraphs("topics", (pages[key] for key in sorted(pages)))


def docstrings(library: Path | str | None = None) -> Corpus:
    """The docstrings of Python's standard library, tests left out: about 340,000 tokens in CPython 3.11.

    Read from the sources without running them (a few seconds): files in alphabetical order; in each, modules,
    classes and functions from the outside in. Cut and split as `topics`.

    Args:
        library: folder of the sources; None means this Python's.

    Raises:
        DataError: no sources there.
    """
    library = Path(sysconfig.get_path("stdlib") if library is None else library)
    files = [path.relative_to(library) for path in library.rglob("*.py")]
    files = sorted((f for f in files if not _SKIPPED.intersection(f.parts)), key=lambda f: f.parts)
    found = [text for file in files for text in _docstrings_of(library / file)]
    if not found:
        raise DataError(
            f"there are no sources of the standard library in {library}; choose the text 'topics', which "
            "needs none"
        )
    return _in_paragraphs("docstrings", found)


def wikitext(
    archive: Archive = WIKITEXT2,
    directory: Path | str | None = None,
    *,
    download: bool = True,
    progress: bool = False,
    cache: Path | str | None = None,
) -> Corpus:
    """WikiText-2 or -103, the token files with ``<unk>`` (2.0 or 101 million training tokens).

    Nothing is unpacked to disk: each split is read from the archive line by line when it is iterated.

    Args:
        archive: `WIKITEXT2` or `WIKITEXT103`.
        directory: a folder with the archive, or with its files ``wiki.{train,valid,test}.tokens`` (or
            ``.txt``) in itself or in the archive's folder; with it, nothing is downloaded.
        download: download the archive (4.5 or 190 MB) if it is not in the cache.
        progress: show a bar while downloading.
        cache: folder of downloads; None means `core.downloads.default_cache`.

    Raises:
        DataError: no such files, a corrupt or wrong archive, a failed download.
    """
    names = {split: f"wiki.{split}.tokens" for split in _SPLITS}
    if directory is None:
        location = fetch(archive, cache=cache, download=download, progress=progress)
    else:
        names = _names_in(Path(directory).expanduser(), archive)
        location = locate(directory, archive, dict.fromkeys(names.values()))
    train, validation, test = (FileLines(location, archive, names[split]) for split in _SPLITS)
    return Corpus(archive.folder, train, validation, test)


def _names_in(directory: Path, archive: Archive) -> dict[str, str]:
    """The splits' file names with the ending of which there are more files, .tokens before .txt."""
    choices = [{split: f"wiki.{split}{ending}" for split in _SPLITS} for ending in (".tokens", ".txt")]

    def found(names: dict[str, str]) -> int:
        folders = (directory / archive.folder, directory)
        return max(sum((folder / name).is_file() for name in names.values()) for folder in folders)

    return max(choices, key=found)


def _in_paragraphs(name: str, texts: Iterable[str]) -> Corpus:
    """Cut at blank lines, keep the first of equal paragraphs, every 10th of them for validation."""
    paragraphs = list(dict.fromkeys(p for text in texts for p in _BLANK_LINES.split(text) if p.strip()))
    train = [p for i, p in enumerate(paragraphs) if i % _VALIDATION_EVERY]
    return Corpus(name, train, paragraphs[::_VALIDATION_EVERY])


def _docstrings_of(path: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in the source are no matter here
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError):  # a template, or not readable: not a source
            return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield text
