"""Pages out of PDFs and pictures: what is drawn, and what is refused."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colreduce.embed import pages
from colreduce.embed.pages import Page, PageFile, drawn, page_files, recorded_page, thumbnail
from colreduce.errors import BadData
from tests.reference.pdfs import write_pdf

pytest.importorskip("pypdfium2", reason="pypdfium2 is not installed")
images = pytest.importorskip("PIL.Image", reason="pillow is not installed")


def picture(width: int = 60, height: int = 80, colour: str = "white") -> Any:
    return images.new("RGB", (width, height), colour)


def all_of(path: Path) -> list[tuple[str, float, float]]:
    with PageFile(path) as file:
        sheets = [file.sheet(number) for number in range(1, file.count + 1)]
    return [(sheet.text, sheet.width, sheet.height) for sheet in sheets]


def test_a_pdf_gives_its_pages_with_their_text(tmp_path: Path):
    path = write_pdf(tmp_path / "two.pdf", ["tides and the moon", "bread\nrises"], (300, 400))
    assert all_of(path) == [("tides and the moon", 300, 400), ("bread\nrises", 300, 400)]
    first, second = drawn([Page(path, 1), Page(path, 2)])
    assert first.mode == "RGB"
    assert first.size == (1250, 1667)  # 300 dots to the inch
    blue = np.asarray(second)[-100, 90 : 90 + 4 * 60, 2].mean()  # in the bar, which page 2 has wide
    assert blue > np.asarray(second)[-100, 90 : 90 + 4 * 60, 0].mean() + 100


def test_a_large_page_is_drawn_no_larger_than_the_longest(tmp_path: Path):
    path = write_pdf(tmp_path / "wall.pdf", ["poster"], (14000, 7000))
    [found] = drawn([Page(path)])
    assert found.size == (2048, 1024)


def test_pictures_of_every_kind_are_pages(tmp_path: Path):
    for ending, kind in pages.PICTURES.items():
        picture(60, 80, "red").save(tmp_path / f"a{ending}", kind)
    for path in page_files(tmp_path):
        assert all_of(path) == [("", 60, 80)]
        [found] = drawn([Page(path)])
        assert found.mode == "RGB"
        assert found.size == (60, 80)


def test_a_tiff_may_hold_several_pages(tmp_path: Path):
    path = tmp_path / "scan.tiff"
    picture(60, 80, "red").save(path, save_all=True, append_images=[picture(50, 40, "blue")])
    assert all_of(path) == [("", 60, 80), ("", 50, 40)] or len(all_of(path)) == 2
    _, second = drawn([Page(path, 1), Page(path, 2)])
    assert second.size == (50, 40)
    assert second.getpixel((3, 3)) == (0, 0, 255)


def test_what_is_to_be_seen_through_is_white_and_a_turned_photograph_stands_upright(tmp_path: Path):
    images.new("RGBA", (20, 10), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    [found] = drawn([Page(tmp_path / "clear.png")])
    assert found.getpixel((5, 5)) == (255, 255, 255)
    turned = picture(20, 10)
    tags = turned.getexif()
    tags[0x0112] = 6  # turn it by a quarter to see it upright
    turned.save(tmp_path / "turned.jpg", exif=tags)
    [found] = drawn([Page(tmp_path / "turned.jpg")])
    assert found.size == (10, 20)


def bomb(side: int) -> bytes:
    """Return a PNG of black pixels, a thousandth as long as what it unpacks to."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((side // 8 + 1) * side))
    marks = [chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(marks)


def test_what_cannot_be_used_is_told_with_the_reason(tmp_path: Path):
    sound = write_pdf(tmp_path / "sound.pdf", ["one"]).read_bytes()
    files = {
        "locked.pdf": ("encrypted", write_pdf(tmp_path / "x.pdf", ["x"], locked=True).read_bytes()),
        "none.pdf": ("it has no pages", write_pdf(tmp_path / "y.pdf", []).read_bytes()),
        "text.pdf": ("damaged or no PDF", b"plain text"),
        "empty.pdf": ("damaged or no PDF", b""),
        "torn.pdf": ("damaged or no PDF", sound[:90]),
        "strip.pdf": ("no page", write_pdf(tmp_path / "z.pdf", ["z"], (2, 900)).read_bytes()),
        "bomb.png": ("9,000 by 9,000 pixels; at most 64,000,000", bomb(9000)),
        "large.png": ("more than the 64,000,000 pixels", bomb(10_000)),
        "vast.png": ("more than the 64,000,000 pixels", bomb(20_000)),
        "no.png": ("no picture of the kind", sound),
        "cut.jpg": ("damaged", _jpeg()[:700]),
    }  # fmt: skip
    for name, (why, data) in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(BadData, match=why) as problem:
            all_of(path)
        assert name in str(problem.value)
    with pytest.raises(BadData, match="no such file"):
        all_of(tmp_path / "gone.pdf")
    with pytest.raises(BadData, match="no such file"):
        all_of(tmp_path / "gone.png")
    with pytest.raises(BadData, match="wanted a file of pages"):
        all_of(tmp_path / "a.docx")


def _jpeg() -> bytes:
    import io

    noise = np.random.default_rng(0).integers(0, 255, (90, 70, 3), np.uint8)
    file = io.BytesIO()
    images.fromarray(noise).save(file, "JPEG")
    return file.getvalue()


def test_a_file_with_changed_bytes_is_read_or_refused_and_nothing_else(tmp_path: Path):
    draw = random.Random(0)
    files = {".pdf": write_pdf(tmp_path / "a.pdf", ["one", "two"]).read_bytes()}
    noise = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)
    for ending, kind in pages.PICTURES.items():
        images.fromarray(noise).save(tmp_path / f"b{ending}", kind)
        files[ending] = (tmp_path / f"b{ending}").read_bytes()
    refused = []
    for number in range(240):
        ending = sorted(files)[number % len(files)]
        data = bytearray(files[ending])
        for _ in range(draw.randrange(1, 8)):
            at = draw.randrange(len(data))
            if draw.random() < 0.6:
                data[at] = draw.randrange(256)
            else:
                del data[at : at + draw.randrange(1, 40)]
        path = tmp_path / f"damaged{ending}"
        path.write_bytes(bytes(data))
        try:
            with PageFile(path) as file:
                for page in range(1, min(file.count, 3) + 1):
                    file.sheet(page)
                    thumbnail(file.picture(page))
        except BadData as problem:
            refused.append((str(path), str(problem)))
    assert 40 < len(refused) < 200
    assert all(name in told for name, told in refused)


def test_a_file_of_too_many_pages_is_refused(tmp_path: Path):
    path = write_pdf(tmp_path / "many.pdf", ["x"] * 4)
    with pytest.raises(BadData, match="has 4 pages; 1 to 3"):
        PageFile(path, most=3)
    with PageFile(path, most=4) as file, pytest.raises(BadData, match="no page 5; it has 4"):
        file.picture(5)


def test_a_page_with_more_text_than_a_book_is_refused(tmp_path: Path, monkeypatch):
    path = write_pdf(tmp_path / "long.pdf", ["many words"])
    monkeypatch.setattr(pages, "MOST_TEXT", 5)
    with PageFile(path) as file, pytest.raises(BadData, match="its text takes 10 bytes"):
        file.sheet(1)


def test_thumbnails_are_small_whatever_the_page(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 255, (1600, 1200, 3), np.uint8)
    for one in (picture(30, 40), picture(2048, 1024), images.fromarray(noise)):
        made = thumbnail(one)
        assert made[:4] == b"RIFF"
        assert made[8:12] == b"WEBP"
        assert len(made) <= pages.THUMBNAIL_BYTES


def test_a_record_names_a_picture_in_its_own_folder_only(tmp_path: Path):
    inside = tmp_path / "corpus"
    (inside / "images").mkdir(parents=True)
    picture().save(inside / "images" / "7.png")
    picture().save(tmp_path / "secret.png")
    assert recorded_page({"image": "images/7.png"}, inside) == Page(
        (inside / "images" / "7.png").resolve()
    )
    assert recorded_page({"title": "no picture"}, inside) is None
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    outside = ("../secret.png", str(tmp_path / "secret.png"), "link.png")
    for name in (*outside, "gone.png", "images", "http://x/y.png", "a\0b.png", 7):
        assert recorded_page({"image": name}, inside) is None


def test_the_digest_of_a_page_changes_with_its_file(tmp_path: Path):
    path = tmp_path / "a.png"
    picture(6, 8, "red").save(path)
    before = [Page(path, number).digest() for number in (1, 2)]
    assert before[0] != before[1]
    picture(6, 8, "blue").save(path)
    assert Page(path).digest() != before[0]
    with pytest.raises(BadData, match="cannot read"):
        Page(tmp_path / "gone.png").digest()


def test_files_are_found_in_inner_folders_by_name(tmp_path: Path):
    for name in ("b.pdf", "a/z.PNG", "a/.hidden.pdf", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = [path.relative_to(tmp_path).as_posix() for path in page_files(tmp_path)]
    assert found == ["a/z.PNG", "b.pdf"]
