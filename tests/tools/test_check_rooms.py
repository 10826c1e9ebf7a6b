"""The rooms keep to their order, and each rule can fail: a planted violation for every one."""

from __future__ import annotations

import pytest

CLEAN = {
    "include/understudy/error.h": "#pragma once\n#include <string>\n",
    "include/understudy/value.h": '#pragma once\n#include "understudy/error.h"\n',
    "src/base/error.h": '#pragma once\n#include <fmt/format.h>\n#include "understudy/error.h"\n',
    "src/value/walk.h": '#pragma once\n#include "base/error.h"\n#include "understudy/value.h"\n',
    "src/value/walk.cpp": '#include "value/walk.h"\n\n#include <map>\n',
    "src/os/file.cpp": "#include <fcntl.h>\nint f() { return errno; }\n",
    "src/vm/pages.cpp": "#include <sys/mman.h>\nint f() { return errno; }\n",
    "cli/main.cpp": '#include "main.h"\n#include <CLI/CLI.hpp>\n#include "understudy/error.h"\n',
    "cli/main.h": "#pragma once\n",
    "tests/value/walk_test.cpp": '#include "value/walk.h"\n',
}

PLANTED = [
    ("src/value/x.h", '#pragma once\n#include "os/file.h"\n', "room value may not include os"),
    ("src/base/x.h", '#pragma once\n#include "understudy/value.h"\n', "which is value's"),
    ("src/store/x.h", '#pragma once\n#include "value/walk.h"\n', "store may not include value"),
    ("src/ranks/x.h", '#pragma once\n#include "os/file.h"\n', "room ranks may not include os"),
    ("src/store/x.h", '#pragma once\n#include "ranks/y.h"\n', "store may not include ranks"),
    ("src/ranks/x.cpp", "#include <sys/socket.h>\n", "only rooms os and vm talk to the system"),
    ("src/os/x.cpp", '#include "vm/pages.h"\n', "room os may not include vm"),
    ("src/vm/x.cpp", '#include "memory/region.h"\n', "room vm may not include memory"),
    ("src/attic/x.h", '#pragma once\n#include "base/error.h"\n', "no room is called attic"),
    ("cli/x.cpp", '#include "value/walk.h"\n', "only understudy/*.h is public"),
    ("python/src/x.cpp", '#include "base/error.h"\n', "only understudy/*.h is public"),
    ("python/src/walk/x.cpp", '#include "build/a.h"\n', "src/walk may not include build"),
    ("python/src/core/x.cpp", '#include "walk/a.h"\n', "src/core may not include walk"),
    ("python/src/attic/x.cpp", '#include "walk/a.h"\n', "no room of python/src is called attic"),
    ("python/src/x.cpp", '#include "walk/a.h"\n', "no room of python/src is called x.cpp"),
    ("python/src/walk/x.cpp", '#include "a.h"\n', "name it with its room"),
    ("examples/x.cpp", '#include "base/error.h"\n', "only understudy/*.h is public"),
    ("include/understudy/version.h", '#pragma once\n#include "base/error.h"\n', "is private"),
    ("src/value/x.cpp", "#include <cerrno>\n", "only rooms os and vm talk to the system"),
    ("src/value/x.cpp", "#include <sys/mman.h>\n", "only rooms os and vm talk to the system"),
    ("src/value/x.cpp", "int f() { return errno; }\n", "errno exists in rooms os and vm only"),
    ("src/value/x.cpp", "#include <nlohmann/json.hpp>\n", "may not use nlohmann"),
    ("src/value/x.cpp", "#include <boost/any.hpp>\n", "no library we know"),
    ("src/value/x.cpp", '#include "walk.h"\n', "name it with its room"),
    ("src/value/x.cpp", '#include "understudy/new.h"\n', "the table of public headers"),
    ("src/value/x.cpp", 'void f() { std::cout << "x"; }\n', "the library never prints"),
    ("src/value/walk.cpp", '#include <map>\n#include "value/walk.h"\n', "not its own header"),
    ("src/value/walk.cpp", "#include <map>\n", "not its own header"),
    ("src/value/x.h", '#include "base/error.h"\n', "without #pragma once"),
    ("src/base/error.h", '#pragma once\n#include "base/error.h"\n', "a cycle"),
    ("python/src/core/x.h", "#pragma once\nPyEval_SaveThread();\n", "by core/gil.h only"),
    ("src/value/x.cpp", "// TO" + "DO later\n", "unfinished work"),
    ("tests/python/test_x.py", "# FIX" + "ME\n", "unfinished work"),
    ("src/value/x.cpp", "\n" * 401, "longer than 400 lines"),
    ("python/understudy/x.py", "\n" * 401, "longer than 400 lines"),
]


@pytest.fixture
def clean_tree(write, tmp_path):
    for name, text in CLEAN.items():
        write(name, text)
    return tmp_path


def test_this_tree_keeps_to_the_order(run_tool):
    result = run_tool("check_rooms.py")
    assert result.returncode == 0, result.stdout


def test_a_clean_tree_passes(run_tool, clean_tree):
    result = run_tool("check_rooms.py", clean_tree)
    assert (result.returncode, result.stdout) == (0, "check_rooms: 10 files, 0 problems\n")


@pytest.mark.parametrize(("name", "text", "message"), PLANTED)
def test_a_planted_violation_is_found(run_tool, write, clean_tree, name, text, message):
    write(name, text)
    result = run_tool("check_rooms.py", clean_tree)
    assert result.returncode == 1
    assert message in result.stdout
    assert result.stdout.startswith(f"{name}:")
    assert ", 1 problems" in result.stdout


def test_a_longer_cycle_is_found(run_tool, write, clean_tree):
    write("src/value/a.h", '#pragma once\n#include "value/b.h"\n')
    write("src/value/b.h", '#pragma once\n#include "value/a.h"\n')
    result = run_tool("check_rooms.py", clean_tree)
    assert result.returncode == 1
    assert "a cycle: src/value/a.h -> src/value/b.h -> src/value/a.h" in result.stdout


def test_nothing_to_check_is_a_failure(run_tool, tmp_path):
    assert run_tool("check_rooms.py", tmp_path).returncode == 1
