"""Self-contained HTML pages: no scripts, no network, readable on a phone and on paper."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from matplotlib.axes import Axes

from bruno.errors import UserError
from bruno.paths import user_path
from bruno.reporting.figures import to_png
from bruno.serialization import write_atomically

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5d6470; --line: #dfe2e7; --page: #fff;
  --card: #f5f7fa; --accent: #0072B2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #a0a8b4; --line: #3a3f47; --page: #16181c; --card: #1f2329;
    --accent: #56B4E9; }
}
* { box-sizing: border-box; }
body { color: var(--ink); background: var(--page); max-width: 60rem; margin: 0 auto;
  padding: 2rem 1rem 4rem; font: 16px/1.6 system-ui, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 3rem 0 .5rem; }
p { margin: .5rem 0 .8rem; max-width: 44rem; white-space: pre-line; }
.lead { font-size: 1.15rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(12.5rem, 1fr)); gap: .8rem;
  margin: 1.5rem 0; padding: 0; list-style: none; }
.tiles li { background: var(--card); border-radius: 10px; padding: .8rem 1rem; }
.tiles b { display: block; font-size: 1.45rem; line-height: 1.25; color: var(--accent);
  font-variant-numeric: tabular-nums; }
.tiles span { display: block; }
.tiles small, figcaption, .note, .terms { color: var(--soft); font-size: .88rem; }
figure { margin: 1rem 0; break-inside: avoid; }
figure img { max-width: min(100%, 46rem); height: auto; background: #fff; border-radius: 8px;
  padding: 8px; border: 1px solid var(--line); }
.wide { overflow-x: auto; }
.wide > img { width: 46rem; max-width: max(100%, 36rem); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { text-align: left; padding: .3rem 1.1rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td { white-space: nowrap; }
th { font-weight: 600; min-width: 7rem; }
.terms { max-width: 44rem; margin: .8rem 0 0; padding: .1rem 0 .1rem .9rem;
  border-left: 3px solid var(--line); }
.terms dt { font-weight: 600; display: inline; }
.terms dd { display: inline; margin: 0; }
.terms dd::after { content: ""; display: block; margin-bottom: .25rem; }
details { border-top: 1px solid var(--line); padding: .6rem 0; }
details:first-of-type { margin-top: 3rem; }
details td { white-space: normal; overflow-wrap: anywhere; }
summary { cursor: pointer; font-weight: 600; }
@media print { body { max-width: none; margin: 0; font-size: 11pt; }
  h2 { break-after: avoid; } tr { break-inside: avoid; }
  :root { --ink: #000; --soft: #444; --line: #bbb; --page: #fff; --card: #fff; } }
"""


@dataclass(frozen=True)
class Table:
    """A table of plain text; the first column names the rows.

    Attributes:
        header: Column headings.
        rows: Cells; :func:`str` of each is shown.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A drawing with its description.

    Attributes:
        axes: Axes of the figure, which is shown as a whole.
        caption: Shown below, and read out where pictures cannot be seen.
        wide: Scroll it sideways on screens that are too narrow for its details.
    """

    axes: Axes
    caption: str
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        heading: Its heading.
        text: Text at the top; a newline starts a new line.
        table: A table after the pictures.
        pictures: Pictures after the text.
        terms: Terms that the section uses, with their meanings, at its end.
        folded: Show only the heading until the reader opens it.
    """

    heading: str
    text: str = ""
    table: Table | None = None
    pictures: tuple[Picture, ...] = ()
    terms: tuple[tuple[str, str], ...] = ()
    folded: bool = False


@dataclass(frozen=True)
class Tile:
    """A figure at the top of a page.

    Attributes:
        value: The figure with its unit.
        label: Its name.
        note: What to compare it with, such as the level of chance.
    """

    value: str
    label: str
    note: str = ""


def render_report(
    title: str,
    sections: Sequence[Section],
    note: str = "",
    *,
    lead: str = "",
    tiles: Sequence[Tile] = (),
) -> str:
    """Return a complete HTML page; every string given is escaped.

    Args:
        title: Title of the page.
        sections: Its sections.
        note: A line in small print below the title.
        lead: Text in larger print below that.
        tiles: Figures below the lead.
    """
    head = f'<h1>{escape(title)}</h1>\n<p class="note">{escape(note)}</p>\n'
    if lead:
        head += f'<p class="lead">{escape(lead)}</p>\n'
    if tiles:
        items = "\n".join(
            f"<li><b>{escape(tile.value)}</b><span>{escape(tile.label)}</span>"
            f"<small>{escape(tile.note)}</small></li>"
            for tile in tiles
        )
        head += f'<ul class="tiles">\n{items}\n</ul>\n'
    body = "\n".join(_section_html(section) for section in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"{head}{body}\n</body>\n</html>\n"
    )


def write_report(path: str | Path, html: str) -> None:
    """Write a page to a file, which appears whole or not at all.

    Args:
        path: The file.
        html: The page.

    Raises:
        UserError: If the file cannot be written.
    """
    path = user_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, html.encode())
    except OSError as error:
        raise UserError(f"path: cannot write {str(path)!r}: {error}") from None


def _section_html(section: Section) -> str:
    parts = []
    if section.text:
        parts.append(f"<p>{escape(section.text)}</p>")
    parts += [_picture_html(picture) for picture in section.pictures]
    if section.table is not None:
        parts.append(_table_html(section.table))
    if section.terms:
        terms = "".join(
            f"<dt>{escape(term)}</dt><dd>: {escape(meaning)}</dd>"
            for term, meaning in section.terms
        )
        parts.append(f'<dl class="terms">{terms}</dl>')
    body, heading = "\n".join(parts), escape(section.heading)
    if section.folded:
        return f"<details>\n<summary>{heading}</summary>\n{body}\n</details>"
    return f"<section>\n<h2>{heading}</h2>\n{body}\n</section>"


def _table_html(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(str(cell))}</th>' for cell in table.header)
    lines = [f"<thead><tr>{head}</tr></thead>"] if head else []
    for first, *rest in table.rows:
        cells = "".join(f"<td>{escape(str(cell))}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{escape(str(first))}</th>{cells}</tr>')
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _picture_html(picture: Picture) -> str:
    data = base64.b64encode(to_png(picture.axes)).decode()
    caption = escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/png;base64,{data}">'
    if picture.wide:
        image = f'<div class="wide">{image}</div>'
    return f"<figure>{image}\n<figcaption>{caption}</figcaption></figure>"
