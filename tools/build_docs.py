#!/usr/bin/env python3
"""Builds the site from docs/, the docstrings and the headers.

    tools/build_docs.py [--root ROOT] [OUTPUT]       OUTPUT is build/site unless said

Exit status 1 when Doxygen or Sphinx warns, or when a link within the site leads nowhere. Needs
doxygen and tools/requirements-docs.txt, and the package where Python imports it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent


def run_doxygen(root: Path, xml: Path) -> int:
    """The headers as XML, which Breathe reads. What has no comment is in it too, so that the
    reference is never short of a name."""
    shutil.rmtree(xml, ignore_errors=True)
    xml.parent.mkdir(parents=True, exist_ok=True)
    settings = {
        "INPUT": f'"{root / "include/understudy"}"',
        "STRIP_FROM_PATH": f'"{root / "include"}"',
        "OUTPUT_DIRECTORY": f'"{xml.parent}"',
        "XML_OUTPUT": xml.name,
        "GENERATE_XML": "YES",
        "GENERATE_HTML": "NO",
        "GENERATE_LATEX": "NO",
        "XML_PROGRAMLISTING": "NO",
        "EXTRACT_ALL": "YES",
        "JAVADOC_AUTOBRIEF": "YES",
        "QUIET": "YES",
        "WARN_AS_ERROR": "FAIL_ON_WARNINGS",
    }
    text = "".join(f"{key} = {value}\n" for key, value in settings.items())
    return subprocess.run(["doxygen", "-"], input=text, text=True, check=False).returncode


def run_sphinx(root: Path, xml: Path, output: Path) -> int:
    shutil.rmtree(output, ignore_errors=True)  # a page that was renamed leaves nothing behind
    command = [sys.executable, "-m", "sphinx", "--quiet", "-W", "--keep-going", "--fresh-env"]
    command += ["-d", str(output.with_name(output.name + "-doctrees"))]
    command += [str(root / "docs"), str(output)]
    environment = {**os.environ, "UNDERSTUDY_DOXYGEN_XML": str(xml)}
    return subprocess.run(command, env=environment, check=False).returncode


class Page(HTMLParser):
    """What a page points to, and what in it can be pointed to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if value and name in ("href", "src"):
                self.targets.append(value)
            elif value and (name == "id" or (tag == "a" and name == "name")):
                self.anchors.add(value)


def broken_links(site: Path) -> Iterator[str]:
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for target in dict.fromkeys(page.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue  # other places answer for themselves
            file = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not file.exists():
                yield f"{path.relative_to(site)}: the link to {target} leads nowhere"
            elif anchor and file in pages and anchor not in pages[file].anchors:
                yield f"{path.relative_to(site)}: {target} names nothing on that page"


def main() -> int:
    parser = argparse.ArgumentParser(description="Builds the site.")
    parser.add_argument("output", nargs="?", type=Path, metavar="OUTPUT")
    parser.add_argument("--root", type=Path, default=ROOT)
    arguments = parser.parse_args()
    root = arguments.root.resolve()
    output = (arguments.output or root / "build/site").resolve()
    xml = output.with_name(output.name + "-xml")
    if run_doxygen(root, xml) or run_sphinx(root, xml, output):
        return 1
    broken = list(broken_links(output))
    print("".join(f"{message}\n" for message in broken), end="")
    print(f"docs: {len(list(output.rglob('*.html')))} pages, {len(broken)} broken links, {output}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
