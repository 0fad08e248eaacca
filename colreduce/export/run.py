"""Running one export from an index to its place."""

from __future__ import annotations

from pathlib import Path

from colreduce.choose import choose
from colreduce.errors import BadInput
from colreduce.export.base import Exported, Exporter
from colreduce.export.place import appearing, check_vacant, size
from colreduce.export.source import Source
from colreduce.index import Index


def export_index(
    index: Index,
    to: str,
    out: str | Path,
    *,
    texts: bool = True,
    as_stored: bool = False,
    replace: bool = False,
    dry_run: bool = False,
) -> Exported:
    """Write all documents of an index in another system's format.

    to         a name from `EXPORTERS`
    out        the file or folder that is to appear
    texts      take the texts along where the index has them
    as_stored  write the codec's numbers instead of decoded vectors, for formats that can
    replace    put it in the place of what is there
    dry_run    check everything and say what would be written

    What was there before stays until the new export is complete, and if it fails.
    """
    from colreduce.export import EXPORTERS

    exporter: Exporter = choose(EXPORTERS, to, "export format")
    if as_stored and not exporter.takes_codes:
        able = ", ".join(name for name, one in EXPORTERS.items() if one.takes_codes)
        raise BadInput(
            f"{to} holds decoded vectors only; vectors go out as they are stored to: {able}",
            field="as_stored",
        )
    out = Path(out)
    check_vacant(out, replace=replace)
    if exporter.needs:
        exporter.load()
    source = Source(index, texts=texts, as_stored=as_stored)
    remarks = [*source.left_out(), *exporter.check(source)]
    written = 0
    if not dry_run:
        with appearing(out, replace=replace) as place:
            exporter.write(source, place)
            written = size(place)
    return Exported(
        format=to,
        out=str(out),
        documents=source.documents,
        vectors=int(source.lengths.sum()),
        dim=source.dim,
        first_stages=source.widths,
        texts=source.texts,
        bytes=written,
        remarks=remarks,
    )
