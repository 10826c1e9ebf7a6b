"""What the documents point to is there, and a document that points nowhere is found."""

from __future__ import annotations

import pytest

PLANTED = [
    ("see [the tour](docs/tuor.md)", "leads nowhere"),
    ("see [the tour](docs/tour.md#rooms)", "no heading for #rooms"),
    ("see [here](#elsewhere)", "no heading for #elsewhere"),
    ("see [outside](../secret.md)", "leads"),
    ("read `src/base/eror.h`", "there is no src/base/eror.h"),
    ("read `CHANGES.md`", "there is no CHANGES.md"),
    ("type `make tets`", "the Makefile has no target tets"),
    ("word " * 24 + "x", "the line has 121 columns, more than 120"),
]


@pytest.fixture
def clean_tree(write, tmp_path):
    write("Makefile", "test: setup\n")
    write("docs/tour.md", "# The tour, with words\n[up](../README.md)\n")
    write("src/base/error.h", "")
    write(
        "README.md",
        "# Top\n[a](docs/tour.md#the-tour-with-words) [b](#top) [c](https://example.org/x)\n"
        "`make test`, `src/base/error.h`, `src/base/`, `src/<room>/`, `runs/a`\n"
        "```sh\nmake nothing  # [x](gone.md)\n```\n" + "word " * 24 + "\n| " + "cell " * 30 + "|\n",
    )
    return tmp_path


def test_this_tree_s_documents_point_to_what_is_there(run_tool):
    result = run_tool("check_docs.py")
    assert result.returncode == 0, result.stdout


def test_a_clean_tree_passes(run_tool, clean_tree):
    result = run_tool("check_docs.py", clean_tree)
    assert (result.returncode, result.stdout) == (0, "check_docs: 2 documents, 0 problems\n")


@pytest.mark.parametrize(("line", "message"), PLANTED)
def test_a_planted_violation_is_found(run_tool, clean_tree, line, message):
    with (clean_tree / "README.md").open("a") as readme:
        readme.write(line + "\n")
    result = run_tool("check_docs.py", clean_tree)
    assert result.returncode == 1
    assert "README.md:9: " in result.stdout
    assert message in result.stdout


def test_nothing_to_check_is_a_failure(run_tool, tmp_path):
    assert run_tool("check_docs.py", tmp_path).returncode == 1
