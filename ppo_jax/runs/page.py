"""A page that one can send: HTML in one file, without network, light and dark."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --paper: #f5f6f8; --card: #fff; --ink: #1d2730;
  --soft: #5d6b78; --line: #dde2e7; --c0: #2563b8; --c1: #d9690f; --c2: #2b8a4b;
  --c3: #b8323f; --c4: #7a4bb3; --c5: #8a5a33; --c6: #c2459a; --c7: #0f8a96; }
@media (prefers-color-scheme: dark) { :root { --paper: #12171c; --card: #1b2229;
  --ink: #e6ebf0; --soft: #9aa8b5; --line: #313b45; --c0: #6aa5f5; --c1: #f79a4b;
  --c2: #5cc47f; --c3: #f0707c; --c4: #b48df0; --c5: #c99a6e; --c6: #f08ad0;
  --c7: #4cc4d0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 20px 16px 48px;
  background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 32px 0 10px; }
h3 { font-size: .85rem; font-weight: 600; margin: 0 0 4px; display: flex;
  justify-content: space-between; gap: 8px; }
h3 span { overflow-wrap: anywhere; }
h3 b { font-variant-numeric: tabular-nums; white-space: nowrap; }
p { margin: 6px 0; overflow-wrap: anywhere; } .soft { color: var(--soft); }
.tiles, .charts { display: grid; gap: 12px; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(135px, 1fr)); margin: 18px 0; }
.card + .charts, .soft + .charts { margin-top: 12px; }
.charts { grid-template-columns: repeat(auto-fill, minmax(min(320px, 100%), 1fr)); }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 12px; min-width: 0; }
.tile b { display: block; font-size: 1.4rem; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .82rem; }
.clip { display: block; width: 100%; max-width: 480px; height: auto;
  border-radius: 10px; border: 1px solid var(--line); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 6px 14px 6px 0; vertical-align: top;
  border-bottom: 1px solid var(--line); font-size: .88rem; }
td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 500; } tr:last-child td { border-bottom: 0; }
td:first-child { overflow-wrap: break-word; min-width: 10.5em; }
td.n, th.n { text-align: right; white-space: nowrap; }
code { font: .86em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
.chart { display: block; width: 100%; height: auto; }
.chart text { font-size: 10.5px; fill: var(--soft); }
.chart .end { text-anchor: end; } .chart .mid { text-anchor: middle; }
.grid { stroke: var(--line); } .axis { stroke: var(--soft); }
.goal { stroke: var(--soft); stroke-dasharray: 4 3; }
.line { fill: none; stroke: var(--color); stroke-width: 1.6;
  stroke-linejoin: round; } .faint { stroke-width: .8; opacity: .4; }
.band { fill: var(--color); opacity: .17; } .dot { fill: var(--color); }
.key { display: inline-block; width: 12px; height: 12px; border-radius: 3px;
  background: var(--color); margin-right: 7px; vertical-align: -1px; flex: none; }
.bar { display: flex; height: 22px; border-radius: 6px; overflow: hidden;
  margin: 4px 0 12px; } .bar i { background: var(--color); min-width: 1px; }
""" + "\n".join(f".c{i} {{ --color: var(--c{i}); }}" for i in range(8))

MEDIA = {
    ".mp4": "video/mp4",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".png": "image/png",
}


def write_page(path: Path, title: str, body: Iterable[str]) -> Path:
    """Writes a page, whole or not at all; returns its path."""
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style></head>\n"
        "<body>\n" + "\n".join(body) + "\n</body></html>\n"
    )
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return path


def tile(value: str, name: str) -> str:
    """Returns a number that is to be seen first."""
    content = f"<b>{escape(value)}</b><span>{escape(name)}</span>"
    return f'<div class="card tile">{content}</div>'


def card(title: str, content: str, value: str = "") -> str:
    """Returns a chart or the like with its name above, and its newest value."""
    newest = f"<b>{escape(value)}</b>" if value else ""
    head = f"<h3><span>{escape(title)}</span>{newest}</h3>"
    return f'<div class="card">{head}{content}</div>'


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    numbers: Sequence[int] = (),
    keys: Sequence[int] = (),
) -> str:
    """Returns a table that scrolls by itself where the screen is narrow.

    Args:
      columns: their names.
      rows: text of each cell.
      numbers: which columns stand to the right.
      keys: the colour that stands before the first cell of each row; none without.
    """
    kind = lambda i: ' class="n"' if i in numbers else ""
    head = "".join(f"<th{kind(i)}>{escape(x)}</th>" for i, x in enumerate(columns))
    lines = []
    for index, row in enumerate(rows):
        cells = [f"<td{kind(i)}>{escape(x)}</td>" for i, x in enumerate(row)]
        if keys:
            mark = f'<i class="key c{keys[index] % 8}"></i>'
            cells[0] = cells[0].replace("<td>", f"<td>{mark}", 1)
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="card scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'
    )


def film(path: Path, caption: str) -> str:
    """Returns a film or a picture that is part of the page."""
    kind = MEDIA[path.suffix.lower()]
    source = f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
    name = escape(caption)
    if kind.startswith("video"):
        how = "autoplay loop muted playsinline controls"
        return f'<video class="clip" {how} src="{source}" aria-label="{name}"></video>'
    return f'<img class="clip" src="{source}" alt="{name}">'
