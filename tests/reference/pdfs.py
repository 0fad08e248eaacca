"""PDF files written by hand: a few objects, a table of where they begin, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

LOCKED = (
    b"<< /Filter /Standard /V 1 /R 2 /O <" + b"ab" * 32 + b"> /U <" + b"cd" * 32 + b"> /P -4 >>"
)


def write_pdf(
    path: Path,
    texts: Sequence[str],
    size: tuple[float, float] = (300, 400),
    *,
    locked: bool = False,
) -> Path:
    """Write one page for each text, in large letters above a bar of the page's number.

    locked  say that it is encrypted with a password that nobody knows
    """
    count = len(texts)
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(count))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(texts, start=1):
        lines = "".join(f"({line}) Tj T* " for line in text.split("\n"))
        drawn = f"0 0.4 0.8 rg 20 20 {30 * number} 60 re f "
        drawn += f"0 g BT /F1 20 Tf 24 TL 20 {size[1] - 60} Td {lines}ET"
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {size[0]} {size[1]}] /Contents "
            f"{5 + 2 * (number - 1)} 0 R /Resources << /Font << /F1 3 0 R >> >> >>".encode(),
            f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream".encode(),
        ]
    if locked:
        objects.append(LOCKED)
    body, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, start=1):
        places.append(len(body))
        body += f"{number} 0 obj\n".encode() + one + b"\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    more = f"/Encrypt {len(objects)} 0 R /ID [<00> <00>] " if locked else ""
    end = (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n"
        f"<< /Size {len(objects) + 1} /Root 1 0 R {more}>>\nstartxref\n{len(body)}\n%%EOF\n"
    )
    path.write_bytes(body + end.encode())
    return path
