"""What the site adds to Sphinx: formulas as MathML, and docstrings as they are written.

The docstrings of the code know nothing of Sphinx: a formula is a block indented by
four, the fields of a NamedTuple are explained in comments, those of a configuration by
the help of their option.
"""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

from ppo_jax.runs.config import AlgorithmConfig
from ppo_jax.types import Hyperparams

BEFORE_NAPOLEON = 400  # of Sphinx's event priorities; napoleon has 500
FORMULA_INDENT = 4


def setup(app: Any) -> dict[str, bool]:
    """Registers everything."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.add_transform(LinkCode)
    app.connect("autodoc-process-docstring", _explain, BEFORE_NAPOLEON)
    app.connect("autodoc-skip-member", _skip_fields)
    app.connect("build-finished", _lead_to_front_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class LinkCode(SphinxTransform):
    """Leads [`gae`](../ppo_jax/learning/advantages.py) to the reference of `gae`.

    On a code host the same link opens the file. A name that is not in the reference is
    a warning, and with that an error.
    """

    default_priority = 500

    def apply(self, **kwargs: Any) -> None:
        """Replaces each link whose text is the name of something in the file."""
        for link in list(self.document.findall(addnodes.download_reference)):
            name, path = link.astext(), str(link["reftarget"])
            is_file = "/" in name or path.endswith(f"{name.replace('.', '/')}.py")
            if is_file or not path.endswith(".py"):
                continue
            reference = addnodes.pending_xref(
                "",
                *link.children,
                refdomain="py",
                reftype="obj",
                reftarget=_documented_as(path, name),
                refdoc=self.env.docname,
                refwarn=True,
                refspecific=False,
            )
            link.replace_self(reference)


def _documented_as(path: str, name: str) -> str:
    """Returns what the reference calls a name in a file."""
    import ppo_jax
    import ppo_jax.rsl_rl

    left_out = ("..", "__init__")
    parts = [part for part in Path(path).with_suffix("").parts if part not in left_out]
    if parts[0] in ("envs", "configs"):  # folders at the top, linked into the package
        parts.insert(0, "ppo_jax")
    for package in (ppo_jax.rsl_rl, ppo_jax):  # a public name has its package's
        own = package.__name__.split(".")
        if parts[: len(own)] == own and name.split(".")[0] in package.__all__:
            return f"{package.__name__}.{name}"
    return ".".join([*parts, name])


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    formula = convert(node.astext(), display="block")
    translator.body.append(f'<div class="formula">{formula}</div>')
    raise nodes.SkipNode


def _explain(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Makes formulas literal, and adds the fields of a class to its docstring."""
    del app, what, name, options
    lines[:] = _with_plain_returns(list(_with_literal_formulas(lines)))
    fields = dict(_fields(obj)) if inspect.isclass(obj) else {}
    if fields:
        if dataclasses.is_dataclass(obj):  # the generated docstring is the signature
            lines[:] = [line for line in lines if not line.startswith(obj.__name__)]
        lines += ["", "Fields:", *(f"  {n}: {text}" for n, text in fields.items())]


def _with_literal_formulas(lines: list[str]) -> Iterator[str]:
    """Yields a docstring with "::" before each indented block outside of a section."""
    is_inside = False
    for before, line in zip(["", *lines], lines, strict=False):
        indent = len(line) - len(line.lstrip())
        starts = line.strip() and indent >= FORMULA_INDENT and not before.strip()
        if starts and not is_inside:
            yield from ("::", "")
            is_inside = True
        elif line.strip() and indent < FORMULA_INDENT:
            is_inside = False
        yield line


def _with_plain_returns(lines: list[str]) -> list[str]:
    """Returns a docstring in which no colon makes a type of what is returned.

    Napoleon takes what is before a colon in the first line of the section as a type.
    """
    for index, line in enumerate(lines[1:], start=1):
        words, colon, _ = line.partition(":")
        if lines[index - 1].strip() == "Returns:" and colon and " " in words.strip():
            first = words.rindex(" ")
            indent = line[: len(line) - len(line.lstrip())]
            return [
                *lines[:index],
                line[:first],
                indent + line[first + 1 :],
                *lines[index + 1 :],
            ]
    return lines


def _fields(cls: type) -> Iterator[tuple[str, str]]:
    """Yields the fields of a NamedTuple or of a configuration, and what each means."""
    if dataclasses.is_dataclass(cls):
        helps = _helps(cls)
        for field in dataclasses.fields(cls):
            default = field.default
            is_plain = isinstance(default, bool | int | float | str | tuple)
            shown = f"; default {default!r}" if is_plain and default != "" else ""
            if field.name in helps:
                yield field.name, helps[field.name] + shown
    elif issubclass(cls, tuple) and hasattr(cls, "_fields"):
        known = _helps(AlgorithmConfig) if cls is Hyperparams else {}
        texts = known | _comments(cls)
        yield from ((name, texts.get(name, "")) for name in cls._fields)


def _helps(cls: Any) -> dict[str, str]:
    """Returns {field: the help of its option}."""
    fields = dataclasses.fields(cls)
    return {f.name: f.metadata["help"] for f in fields if "help" in f.metadata}


def _comments(cls: type) -> dict[str, str]:
    """Returns {field: the comment behind it}."""
    source = textwrap.dedent(inspect.getsource(cls))
    lines = source.splitlines()
    (body,) = ast.parse(source).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            _, mark, comment = lines[(node.end_lineno or 1) - 1].partition("  # ")
            if mark:
                comment = comment.removeprefix("-> ")
                found[node.target.id] = comment.replace("*", "\\*").replace("|", "\\|")
    return found


def _skip_fields(
    app: Any, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leaves out what `_fields` has explained already."""
    del app, what, name, skip, options
    is_field = type(obj).__name__ == "_tuplegetter" or not callable(obj)
    return True if is_field and not isinstance(obj, property) else None


def _lead_to_front_page(app: Any, exception: Exception | None) -> None:
    """Writes an index.html at the top, where a browser looks for one."""
    if exception is None and app.builder.format == "html":
        page = app.builder.get_target_uri(app.config.root_doc)
        text = f'<!doctype html><meta http-equiv="refresh" content="0; url={page}">\n'
        (Path(app.outdir) / "index.html").write_text(text)
