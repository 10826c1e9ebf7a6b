"""The documents' examples run as they stand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT, blocks, documents, script

BUILD = Path(os.environ.get("UNDERSTUDY_BUILD", ROOT / "build" / "release"))
CLI = Path(os.environ.get("UNDERSTUDY_CLI", BUILD / "cli" / "understudy"))


def having(language: str) -> list[Path]:
    return [document for document in documents() if script(document, language)]


def run(command: list[str], folder: Path) -> str:
    path = f"{CLI.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One folder a document, in which its Python examples leave what its commands look at."""
    made: dict[Path, Path] = {}

    def folder(document: Path) -> Path:
        if document not in made:
            made[document] = tmp_path_factory.mktemp(document.stem)
        return made[document]

    return folder


@pytest.mark.parametrize("document", having("python"), ids=lambda path: path.name)
def test_python_examples_run(document, folders):
    program = folders(document) / document.with_suffix(".py").name
    program.write_text(script(document, "python"))
    run([sys.executable, str(program)], folders(document))


@pytest.mark.parametrize("document", having("sh"), ids=lambda path: path.name)
def test_commands_run(document, folders):
    run(["bash", "-euxo", "pipefail", "-c", script(document, "sh")], folders(document))


@pytest.mark.parametrize("document", having("cpp"), ids=lambda path: path.name)
def test_cpp_examples_run(document, tmp_path):
    for block in blocks(document):
        if block.language == "cpp" and block.is_run:
            source = tmp_path / f"line_{block.line}.cpp"
            source.write_text(block.text)
            program = source.with_suffix("")
            flags = ["-std=c++20", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'include'}"]
            library = str(BUILD / "libunderstudy.a")
            compiler = os.environ.get("CXX", "g++")
            libraries = [library, "-luring", "-pthread"]
            run([compiler, *flags, str(source), *libraries, "-o", str(program)], tmp_path)
            run([str(program)], tmp_path)


def test_the_readme_has_an_example_of_each_kind():
    """An extraction that found nothing would pass all of the above."""
    assert {"python", "sh", "cpp"} <= {
        block.language for block in blocks(ROOT / "README.md") if block.is_run
    }


def test_a_block_is_left_out_only_with_a_reason(tmp_path):
    document = tmp_path / "x.md"
    document.write_text(
        "<!-- not run: needs a GPU -->\n```python\na\n```\n"
        "<!-- not run: -->\n```python\nb\n```\n```python\nc\n```\n"
    )
    assert script(document, "python").split() == ["b", "c"]
    assert script(document, "python").splitlines()[6:] == ["b", "", "", "c"]
