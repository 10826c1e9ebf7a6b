"""How Sphinx makes the site of these pages: `make docs`.

Python's reference comes from the docstrings, with the signatures of the stub `_core.pyi`; that of
C++ from the headers, through Doxygen and Breathe.
"""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

project = "Understudy"
author = "the Understudy authors"
release = re.search(
    r'kVersion = "([^"]+)"', (ROOT / "include/understudy/version.h").read_text("utf-8")
)[1]

extensions = ["myst_parser", "sphinx.ext.autodoc", "breathe"]
exclude_patterns = ["_static"]
default_role = "code"
highlight_language = "none"  # indented blocks are terminals and layouts
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # as GitHub makes them, because the pages are read there too

autodoc_class_signature = "mixed"
autoclass_content = "both"
autodoc_default_options = {"members": True}
maximum_signature_line_length = 70

breathe_projects = {"understudy": os.environ.get("UNDERSTUDY_DOXYGEN_XML", "../build/docs/xml")}
breathe_default_project = "understudy"
breathe_show_include = False
cpp_maximum_signature_line_length = 70

# Each header opens the namespace anew, and Breathe declares it each time.
suppress_warnings = ["duplicate_declaration.cpp"]

html_theme = "furo"
html_title = f"Understudy {release}"
html_favicon = "_static/icon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False

# --- Links ----------------------------------------------------------------------------------------
# The pages link to files of the tree, which GitHub shows; the site has pages for some of them.

PAGES = {
    "../README.md": "index.md",
    "../CONTRIBUTING.md": "contributing.md",
    "../CHANGELOG.md": "changes.md",
    "../SECURITY.md": "security.md",
}
# Which page of the reference declares what a header has.
HEADERS = {
    name: page
    for page in (ROOT / "docs/reference").glob("cpp-*.md")
    for name in re.findall(r"\{doxygenfile\} (\w+\.h)", page.read_text("utf-8"))
}


def site_link(match: re.Match[str]) -> str:
    """A link out of docs/ as a link within the site, or as its text where there is no such page."""
    text, target = match[1], match[2]
    if page := PAGES.get(target):
        return f"[{text}]({page})"
    if header := re.fullmatch(r"\.\./include/understudy/(\w+\.h)", target):
        page = HEADERS.get(header[1], Path("cpp.md"))
        return f"[{text}](reference/{page.name})"
    return text


def other_headers() -> str:
    """What the reference has for headers that no page of it names yet."""
    names = sorted({path.name for path in (ROOT / "include/understudy").glob("*.h")} - set(HEADERS))
    section = "\n## `understudy/{0}`\n\n```{{doxygenfile}} {0}\n```\n"
    return "".join(section.format(name) for name in names if name != "understudy.h")


def prepare_source(_app: Any, page: str, content: list[str]) -> None:
    # What an example leaves to its reader stands in comments, and is nothing to publish.
    text = re.sub(r"<!--.*?-->", "", content[0], flags=re.DOTALL)
    content[0] = re.sub(r"\[([^\]]*)\]\((\.\./[^)\s]*)\)", site_link, text)
    if page == "reference/cpp":
        content[0] += other_headers()


# --- Python ---------------------------------------------------------------------------------------


class Expand(ast.NodeTransformer):
    """Writes the stub's private names out: readers want to see the choices, not `_Memory`."""

    def __init__(self, aliases: dict[str, ast.expr]) -> None:
        self.aliases = aliases

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.aliases.get(node.id, node)


def read_stub(path: Path) -> dict[str, tuple[str, str]]:
    """For each function and property of the stub its arguments and what it returns."""
    tree = ast.parse(path.read_text("utf-8"))
    aliases = {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    aliases["_T"] = ast.Name("T")
    aliases["_Metrics"] = ast.parse("dict[str, float | int | str]", mode="eval").body
    found: dict[str, tuple[str, str]] = {}

    def read(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                read(node.body, f"{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                node = Expand(aliases).visit(node)
                if prefix:
                    del node.args.args[:1]  # self
                returns = ast.unparse(node.returns) if node.returns else ""
                found[prefix + node.name] = (f"({ast.unparse(node.args)})", returns)

    read(tree.body, "")
    return found


STUB = read_stub(ROOT / "python/understudy/_core.pyi")


def in_stub(name: str) -> tuple[str, str] | None:
    short = name.removeprefix("understudy.").removeprefix("_core.")
    return STUB.get(f"{short}.__init__") or STUB.get(short)


def stub_signature(
    _app: Any, what: str, name: str, _obj: Any, _options: Any, arguments: str, returns: str
) -> tuple[str, str] | None:
    found = in_stub(name)
    if found is None or what in ("property", "attribute"):
        return None
    return found[0], "" if what == "class" else found[1]


def describe_arguments(
    _app: Any, what: str, name: str, obj: Any, _options: Any, lines: list[str]
) -> None:
    """Turns the docstrings' plain `name: text` lines into fields and their indented examples into
    code, and drops the signature that nanobind writes first."""
    short = name.rpartition(".")[2]
    lines[:] = [
        line for line in lines if not re.match(rf"(def )?({short}|__init__)?\(.*\)( -> .*)?$", line)
    ]
    if what in ("property", "attribute"):
        if found := in_stub(name):
            lines += ["", f":type: ``{found[1]}``"]
        return
    field = re.compile(r"(raises )?(\w+): (.*)")
    text: list[str] = []
    is_field = is_code = False
    for line in lines:
        if match := field.fullmatch(line):
            kind = f":raises {match[2]}:" if match[1] else f":param {match[2]}:"
            text += [*([] if is_field else [""]), f"{kind} {match[3]}"]
            is_field = True
        elif is_field and line:
            text.append(f"    {line.strip()}")
        else:
            if line.startswith("    ") and not is_code:
                text += [".. code-block:: python", ""]
            is_code = line.startswith("    ") or (is_code and not line)
            text.append(line)
            is_field = False
    lines[:] = text


def setup(app: Any) -> None:
    app.connect("source-read", prepare_source)
    app.connect("autodoc-process-signature", stub_signature)
    app.connect("autodoc-process-docstring", describe_arguments)
