"""The installed CMake package: headers, library, program, and a consumer that finds them."""

from __future__ import annotations

import json

import pytest
from installing import BUILD, ROOT, run


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("prefix")
    run(["cmake", "--install", BUILD, "--prefix", prefix])
    return prefix


@pytest.fixture(scope="module")
def consumer(prefix, tmp_path_factory):
    folder = tmp_path_factory.mktemp("consumer")
    source = ROOT / "tests" / "install" / "consumer"
    run(["cmake", "-S", source, "-B", folder, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}"])
    run(["cmake", "--build", folder])
    return folder / "consumer"


def test_the_public_headers_are_installed_and_no_others(prefix):
    installed = {path.name for path in (prefix / "include").rglob("*") if path.is_file()}
    assert installed == {path.name for path in (ROOT / "include" / "understudy").glob("*.h")}


def test_a_consumer_saves_and_restores(consumer, tmp_path):
    assert run([consumer, "save", tmp_path / "run"]) == f"{tmp_path}/run/step-7\n"
    assert run([consumer, "restore", tmp_path / "run"]) == "step 7 from disk\n"


def test_a_consumer_catches_errors_by_their_code(consumer, tmp_path):
    assert run([consumer, "missing", tmp_path / "run"]) == "not_found\n"


def test_the_installed_program_lists_what_the_consumer_saved(prefix, consumer, tmp_path):
    run([consumer, "save", tmp_path / "run"])
    listed = json.loads(run([prefix / "bin" / "understudy", "ls", tmp_path / "run", "--json"]))
    assert "7" in json.dumps(listed)
    run([prefix / "bin" / "understudy", "verify", tmp_path / "run"])


def test_a_consumer_of_another_version_is_refused(prefix, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(x LANGUAGES CXX)\n"
        "find_package(understudy 99.0 REQUIRED)\n"
    )
    with pytest.raises(AssertionError, match=r"99\.0"):
        run(["cmake", "-S", tmp_path, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={prefix}"])
