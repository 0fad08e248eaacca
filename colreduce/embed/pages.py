"""Pages out of files: PDFs, and pictures of pages.

Files come from anywhere, so nothing is believed before it was looked at: a picture's size is read
before it is unpacked, pages are drawn no larger than `LONGEST`, and whatever cannot be read is told
in words. A page is a place in a file; its picture is drawn when it is wanted and not kept.
"""

from __future__ import annotations

import functools
import hashlib
import io
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colreduce.errors import BadData, MissingDependency

if TYPE_CHECKING:
    from PIL.Image import Image

PDF = ".pdf"
PICTURES = {
    ".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".bmp": "BMP",
    ".tif": "TIFF", ".tiff": "TIFF",
}  # fmt: skip
SUFFIXES = (PDF, *PICTURES)

# A page is drawn so long at most, in pixels, and no finer than so many to the inch. The largest
# that an encoder takes today is 2,048.
LONGEST = 2048
FINEST = 300

# A picture of more pixels is not unpacked, and a page this many times as long as wide is none.
MOST_PIXELS = 64_000_000
NARROWEST = 100

# What a file may hold unless somebody says otherwise, and the text of a page.
MOST_PAGES = 5000
MOST_TEXT = 1 << 20

# What a thumbnail is made as, pixels and quality, until it takes no more than so many bytes.
THUMBNAILS = ((560, 45), (480, 25), (400, 10), (320, 5), (160, 5))
THUMBNAIL_BYTES = 24_000

# pdfium does one thing at a time, whoever asks.
_PDFIUM = threading.Lock()
_PDF_PROBLEMS = {2: "it cannot be read", 3: "it is damaged or no PDF", 4: "it is encrypted",
                 5: "it is encrypted in a way that is not known"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a file, counted from 1."""

    file: Path
    number: int = 1

    def __str__(self) -> str:
        return f"{self.file} page {self.number}"

    def digest(self) -> str:
        """Return what tells it from other pages, and from itself when its file has changed."""
        try:
            about = self.file.stat()
            return f"{_sha256(self.file, about.st_size, about.st_mtime_ns)} {self.number}"
        except OSError as error:
            raise BadData(f"cannot read {self.file}: {error.strerror or error}") from error


@functools.lru_cache(maxsize=8)
def _sha256(path: Path, size: int, time: int) -> str:
    """Return the digest of a file, which its pages ask for one after the other."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Sheet:
    """What is known of a page before it is drawn.

    text           the text that the file itself holds for the page; a picture holds none
    width, height  of the page: in points in a PDF, in pixels in a picture
    """

    page: Page
    text: str
    width: float
    height: float


def is_page_file(path: Path) -> bool:
    """Say whether a file's name is that of a PDF or of a picture."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def page_files(folder: Path) -> list[Path]:
    """Return all files of pages in a folder and in those inside it, by name."""
    return sorted(path for path in folder.rglob("*") if is_page_file(path) and path.is_file())


class PageFile:
    """An open file of pages.

    Raises `BadData` for one that is damaged, encrypted, empty, too large, or holds too many pages.
    """

    def __init__(self, path: Path, most: int = MOST_PAGES) -> None:
        self.path = path
        if path.suffix.lower() not in SUFFIXES:
            raise BadData(f"{path}: wanted a file of pages: {', '.join(SUFFIXES)}")
        self._inside: _Pdf | _Picture = _Pdf(path) if path.suffix.lower() == PDF else _Picture(path)
        self.count = self._inside.count
        if not 1 <= self.count <= most:
            self.close()
            raise BadData(f"{path}: it has {self.count:,} pages; 1 to {most:,} are taken of a file")

    def sheet(self, number: int) -> Sheet:
        """Look at a page without drawing it."""
        text, width, height = self._inside.look(number)
        _require_page(self.path, number, width, height)
        if len(text.encode()) > MOST_TEXT:
            raise BadData(
                f"{Page(self.path, number)}: its text takes {len(text.encode()):,} bytes; "
                f"at most {MOST_TEXT:,} are taken"
            )
        return Sheet(Page(self.path, number), text, width, height)

    def picture(self, number: int) -> Image:
        """Draw a page, in colour and no larger than `LONGEST`."""
        if not 1 <= number <= self.count:
            raise BadData(f"{self.path}: there is no page {number}; it has {self.count:,}")
        return self._inside.draw(number)

    def close(self) -> None:
        """Let go of the file."""
        self._inside.close()

    def __enter__(self) -> PageFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def drawn(pages: Iterable[Page]) -> Iterator[Image]:
    """Draw pages, one at a time; a file stays open while its pages follow one another."""
    with ExitStack() as stack:
        opened: PageFile | None = None
        for page in pages:
            if opened is None or opened.path != page.file:
                stack.pop_all().close()
                # Its pages were counted when it was taken in; here only some are drawn.
                opened = stack.enter_context(PageFile(page.file, most=1 << 31))
            yield opened.picture(page.number)


def thumbnail(picture: Image) -> bytes:
    """Return a page as a small WebP picture, to be shown."""
    small = picture
    for longest, quality in THUMBNAILS:
        small = _within(small, longest)
        file = io.BytesIO()
        small.save(file, "WEBP", quality=quality, method=2)
        if file.tell() <= THUMBNAIL_BYTES:
            break
    return file.getvalue()


def recorded_page(metadata: Mapping[str, Any], folder: Path) -> Page | None:
    """Return the page that a record names in its metadata as ``image``; None where it names none.

    The name is that of a file in the folder of the corpus or in one inside it, and no other.
    """
    name, number = metadata.get("image"), metadata.get("page", 1)
    if not isinstance(name, str) or not name or not isinstance(number, int) or number < 1:
        return None
    try:
        path = (folder / name).resolve()
        inside = path.is_relative_to(folder.resolve()) and path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return None
    return Page(path, number) if inside and is_page_file(path) else None


class _Pdf:
    """A PDF, read by pdfium."""

    def __init__(self, path: Path) -> None:
        try:
            import pypdfium2
        except ImportError as error:
            raise _lacking("PDFs are drawn with the package pypdfium2") from error
        self._path, self._error = path, pypdfium2.PdfiumError
        with _PDFIUM:
            try:
                self._document = pypdfium2.PdfDocument(path)
            except FileNotFoundError as error:
                raise BadData(f"cannot read {path}: there is no such file") from error
            except self._error as error:
                raise BadData(f"{path}: {_why_not(path, error)}") from error
            self.count = len(self._document)

    def look(self, number: int) -> tuple[str, float, float]:
        def read(page: Any) -> tuple[str, float, float]:
            words = page.get_textpage()
            try:
                text = words.get_text_bounded()
            finally:
                words.close()
            return (_clean(text), round(page.get_width(), 2), round(page.get_height(), 2))

        return self._on_page(number, read)

    def draw(self, number: int) -> Image:
        def render(page: Any) -> Image:
            width, height = page.get_size()
            _require_page(self._path, number, width, height)
            bitmap = page.render(scale=min(LONGEST / max(width, height), FINEST / 72))
            picture: Image = bitmap.to_pil().convert("RGB")
            bitmap.close()
            return picture

        return self._on_page(number, render)

    def _on_page(self, number: int, work: Callable[[Any], Any]) -> Any:
        with _PDFIUM:
            try:
                page = self._document[number - 1]
                try:
                    return work(page)
                finally:
                    page.close()
            except self._error as error:
                raise BadData(f"{Page(self._path, number)}: it cannot be drawn: {error}") from error

    def close(self) -> None:
        with _PDFIUM:
            self._document.close()


def _why_not(path: Path, error: Any) -> str:
    """Say why pdfium did not open a file."""
    from pypdfium2 import raw

    # Of a file that it can open, and that has no pages, it tells what the one before it had.
    opened = raw.FPDF_LoadDocument(str(path).encode(), None)
    if opened:
        raw.FPDF_CloseDocument(opened)
        return "it has no pages"
    return _PDF_PROBLEMS.get(getattr(error, "err_code", None) or 0, "it is no sound PDF")


class _Picture:
    """A picture, or several in a TIFF file."""

    def __init__(self, path: Path) -> None:
        try:
            from PIL import Image
        except ImportError as error:
            raise _lacking("pictures are read with the package pillow") from error
        self._path = path
        kind = PICTURES[path.suffix.lower()]
        with _sound(path):
            self._image: Any = Image.open(path, formats=[kind])
            self.count = int(getattr(self._image, "n_frames", 1)) if kind == "TIFF" else 1

    def look(self, number: int) -> tuple[str, float, float]:
        # Unpacked for a look, and small: a file that was cut short shows itself only now.
        self._read(number, 64)
        width, height = self._image.size
        return "", float(width), float(height)

    def draw(self, number: int) -> Image:
        return self._read(number, LONGEST)

    def _read(self, number: int, longest: int) -> Image:
        from PIL import Image, ImageOps

        with _sound(self._path):
            # Opened anew: what was unpacked small stays small.
            image: Any = Image.open(self._path, formats=[self._image.format])
            with image:
                image.seek(number - 1)
                width, height = image.size
                _require_page(self._path, number, width, height)
                if width * height > MOST_PIXELS:
                    raise BadData(
                        f"{self._path}: it has {width:,} by {height:,} pixels; at most "
                        f"{MOST_PIXELS:,} are unpacked"
                    )
                image.draft("RGB", (longest, longest))
                image.load()
                return _within(_on_white(ImageOps.exif_transpose(image)), longest)

    def close(self) -> None:
        self._image.close()


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """Say in words what is wrong with a picture."""
    from PIL import Image, UnidentifiedImageError

    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged tags that do no harm
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except bombs as error:
        raise BadData(f"{path}: it has more than the {MOST_PIXELS:,} pixels that are unpacked"
                      ) from error  # fmt: skip
    except FileNotFoundError as error:
        raise BadData(f"cannot read {path}: there is no such file") from error
    except UnidentifiedImageError as error:
        raise BadData(f"{path}: it is no picture of the kind that its name says") from error
    except BadData:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, KeyError) as error:
        raise BadData(f"{path}: the picture is damaged: {error}") from error


def _require_page(path: Path, number: int, width: float, height: float) -> None:
    if not (width > 0 and height > 0) or max(width, height) / min(width, height) > NARROWEST:
        raise BadData(f"{Page(path, number)}: it is {width:g} by {height:g}, which is no page")


def _on_white(image: Image) -> Image:
    """Return a picture in red, green and blue; what was to be seen through is white."""
    from PIL import Image as images

    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    white = images.new("RGB", layer.size, "white")
    white.paste(layer, mask=layer.getchannel("A"))
    return white


def _within(image: Image, longest: int) -> Image:
    """Return a picture no longer than so many pixels."""
    if max(image.size) <= longest:
        return image
    share = longest / max(image.size)
    size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    return image.resize(size, reducing_gap=2.0)


def _clean(text: str) -> str:
    """Return a text as it can be stored and shown: no half characters, no control characters."""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    lines = whole.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(one for one in lines if one in "\n\t" or one.isprintable()).strip()


def _lacking(what: str) -> MissingDependency:
    return MissingDependency(f"{what}: pip install 'colreduce[documents]'")
