"""Where it may not install, the set-up says exactly what is missing and changes nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_setup(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "tools" / "setup", *arguments],
        env={**os.environ, "UNDERSTUDY_NO_INSTALL": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_missing_program_is_named_with_its_package():
    result = run_setup("no-such-program:its-package")
    assert result.returncode == 2
    assert result.stderr == (
        "setup: missing: its-package (names as Debian has them)\n"
        "setup: as root: apt-get install its-package\n"
    )


def test_without_a_compiler_all_that_it_would_need_is_named():
    result = run_setup(CXX="no-such-compiler")
    assert result.returncode == 2
    assert "apt-get install g++ libcli11-dev libfmt-dev libgmock-dev" in result.stderr


def test_a_missing_header_is_named_with_its_package(tmp_path):
    blind = tmp_path / "g++"  # a compiler that finds no headers but the standard ones
    blind.write_text('#!/bin/sh\nexec g++ -nostdinc -I. "$@"\n')
    blind.chmod(0o755)
    result = run_setup(CXX=str(blind))
    assert result.returncode == 2
    assert "libxxhash-dev nlohmann-json3-dev\n" in result.stderr


def test_the_demo_needs_no_tools_for_tests():
    result = run_setup("--demo", CXX="no-such-compiler")
    assert result.returncode == 2
    assert "libfmt-dev" in result.stderr and "libgmock-dev" not in result.stderr


def test_what_takes_long_says_how_far_it_is(tmp_path):
    """The command waits until that has been said."""
    told = tmp_path / "told"
    program = f"echo '[3/7] Building x'; until grep -q Building {told}; do sleep 0.01; done; echo y"
    with told.open("w") as file:
        result = subprocess.run(
            [ROOT / "tools" / "quietly", "bash", "-c", program],
            env={**os.environ, "QUIETLY_EVERY_S": "0.1"},
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            check=False,
            timeout=120,
        )
    assert (result.returncode, result.stdout) == (0, "")
    assert told.read_text().splitlines()[0].endswith(" s: [3/7] Building x")


def test_what_fails_is_shown_whole():
    result = subprocess.run(
        [ROOT / "tools" / "quietly", "bash", "-c", "echo one; echo two >&2; exit 3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 3
    assert result.stderr.startswith("one\ntwo\nfailed with status 3: bash -c")


def test_as_root_it_installs_and_looks_again(tmp_path):
    programs = {
        "id": "echo 0",
        # Knows no package before its lists are there, as in a fresh container.
        "apt-get": f'echo "$@" >>{tmp_path}/calls; [ "$1" = update ] || [ -f {tmp_path}/lists ];'
        f' status=$?; [ "$1" = update ] && touch {tmp_path}/lists; exit $status',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    result = run_setup("no-such-program:its-package", UNDERSTUDY_NO_INSTALL="", PATH=path)
    assert result.returncode == 2
    assert result.stderr == (
        "setup: installing its-package\nsetup: still missing after the installation: its-package\n"
    )
    install = "install -y -qq --no-install-recommends its-package ccache"
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls == [install, "update -qq", install]
