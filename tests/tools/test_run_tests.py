"""The runner counts right, and cannot pass when a test fails, dies, hangs about or never ran."""

from __future__ import annotations

import stat

import pytest

CASE = '<testcase name="{}" classname="Room" status="run" result="completed">{}</testcase>'
PROGRAM = """#!/bin/sh
for a; do case "$a" in --gtest_output=xml:*) out=${{a#--gtest_output=xml:}};; esac; done
cat >"$out" <<'XML'
<?xml version="1.0"?><testsuites><testsuite name="Room">{}</testsuite></testsuites>
XML
echo the output
exit {}
"""


@pytest.fixture
def add_program(write, tmp_path):
    """A room with one test program that reports these cases and ends with this status."""

    def add(room: str, text: str) -> None:
        write(f"tests/{room}/x_test.cpp", "")
        path = write(f"build/release/tests/test_{room}", text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    (tmp_path / "fuzz").mkdir()
    return add


def program(cases: list[str], status: int) -> str:
    return PROGRAM.format("".join(cases), status)


PASS = CASE.format("a", "")
FAIL = CASE.format("b", '<failure message="planted"/>')
SKIP = CASE.format("c", '<skipped message="no hardware"/>')


def run_in(run_tool, tmp_path, *suites):
    return run_tool("run_tests.py", "--root", tmp_path, *suites)


def last_line(result) -> str:
    return result.stdout.splitlines()[-1]


def test_sums_over_suites(run_tool, add_program, write, tmp_path):
    add_program("base", program([PASS, PASS, SKIP], 0))
    add_program("value", program([PASS], 0))
    write("tests/python/test_x.py", "def test_a():\n    pass\n\n\ndef test_b():\n    pass\n")
    result = run_in(run_tool, tmp_path)
    assert (result.returncode, last_line(result)) == (0, "5 passed, 0 failed, 1 skipped")
    assert "skipped Room.c: no hardware" in result.stdout
    assert "the output" not in result.stdout


def test_the_site_is_run_when_it_is_named(run_tool, add_program, write, tmp_path):
    add_program("base", program([PASS], 0))
    write("tests/site/test_x.py", "def test_a():\n    pass\n\n\ndef test_b():\n    pass\n")
    result = run_in(run_tool, tmp_path)
    assert last_line(result) == "1 passed, 0 failed"
    assert "is run by make docs-test" in result.stdout
    assert last_line(run_in(run_tool, tmp_path, "site")) == "2 passed, 0 failed"


def test_no_word_of_skips_when_there_is_none(run_tool, add_program, tmp_path):
    add_program("base", program([PASS], 0))
    result = run_in(run_tool, tmp_path)
    assert last_line(result) == "1 passed, 0 failed"


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        pytest.param(program([PASS, FAIL], 1), "2 passed, 1 failed", id="a test fails"),
        pytest.param(program([PASS, FAIL], 0), "2 passed, 1 failed", id="and the status lies"),
        pytest.param(program([PASS], 1), "2 passed, 1 failed", id="bad end after good tests"),
        pytest.param(program([], 0), "1 passed, 1 failed", id="runs nothing"),
        pytest.param("#!/bin/sh\necho the output\nkill -9 $$\n", "1 passed, 1 failed", id="dies"),
        pytest.param(
            "#!/bin/sh\necho the output\necho '[ RUN      ] Room.a'\n"
            "echo '[       OK ] Room.a (3 ms)'\necho '[ RUN      ] Room.b'\nkill -9 $$\n",
            "2 passed, 2 failed",
            id="dies in a test",
        ),
        pytest.param(
            program([SKIP], 0), "1 passed, 1 failed, 1 skipped", id="skips all that it has"
        ),
    ],
)
def test_a_planted_failure_fails_the_run(run_tool, add_program, tmp_path, text, counts):
    add_program("base", program([PASS], 0))
    add_program("value", text)
    result = run_in(run_tool, tmp_path)
    assert (result.returncode, last_line(result)) == (1, counts)
    assert "----- cpp:value -----\nthe output" in result.stdout


def test_a_test_that_takes_its_program_down_is_named(run_tool, add_program, write, tmp_path):
    lines = ["[ RUN      ] Room.good", "[       OK ] Room.good (0 ms)", "[ RUN      ] Room.bad"]
    add_program("value", "#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines) + "exit 9\n")
    write("tests/python/test_x.py", DIES)
    result = run_in(run_tool, tmp_path)
    assert last_line(result) == "2 passed, 4 failed"
    ends = "took the program down, or went beyond its limit"
    assert f"Room.bad {ends}" in result.stdout
    assert f"python/test_x.py::test_bad[with spaces] {ends}" in result.stdout


DIES = """import os, pytest
def test_good():
    pass
@pytest.mark.parametrize("how", ["with spaces"])
def test_bad(how):
    os._exit(3)
"""


def test_a_test_of_python_that_hangs_is_named(run_tool, write, tmp_path):
    (tmp_path / "fuzz").mkdir()
    write("pyproject.toml", LIMITS)
    write(
        "tests/python/test_x.py",
        "import threading\n\n\ndef test_bad():\n    HANG\n".replace(
            "HANG", "threading.Event().wait()"
        ),
    )
    result = run_in(run_tool, tmp_path)
    assert result.returncode == 1
    assert "test_x.py::test_bad took the program down, or went beyond its limit" in result.stdout
    assert "Timeout" in result.stdout and "in test_bad" in result.stdout  # where it was


LIMITS = """[tool.pytest.ini_options]
faulthandler_timeout = 1
faulthandler_exit_on_timeout = true
"""


def test_the_slowest_tests_are_named(run_tool, add_program, tmp_path):
    cases = [CASE.replace('name="{}"', f'name="t{n}" time="{n}.5"').format("") for n in range(7)]
    add_program("base", program(cases, 0))
    lines = run_in(run_tool, tmp_path).stdout.splitlines()
    named = [line.split()[-1] for line in lines[lines.index("slowest:") + 1 : -1]]
    assert named == [f"Room.t{n}" for n in (6, 5, 4, 3, 2)]


def test_suites_run_side_by_side_but_for_those_that_are_alone(run_tool, add_program, tmp_path):
    """Each of two waits for the other; one that must be alone finds nobody beside it."""
    for name, other in (("base", "value"), ("value", "base")):
        meets = (
            f"touch {tmp_path}/{name}; while [ ! -e {tmp_path}/{other} ]; do sleep 0.01; done; "
            f"[ ! -e {tmp_path}/alone ] || exit 5\n"
        )
        add_program(name, program([PASS], 0).replace("#!/bin/sh\n", "#!/bin/sh\n" + meets))
    alone = f"touch {tmp_path}/alone; [ ! -e {tmp_path}/base ] || exit 6; rm {tmp_path}/alone\n"
    add_program("stage", program([PASS], 0).replace("#!/bin/sh\n", "#!/bin/sh\n" + alone))
    result = run_in(run_tool, tmp_path, "--jobs", 2)
    assert (result.returncode, last_line(result)) == (0, "3 passed, 0 failed")


def test_a_program_that_was_not_built_fails_the_run(run_tool, add_program, write, tmp_path):
    add_program("base", program([PASS], 0))
    write("tests/value/x_test.cpp", "")
    result = run_in(run_tool, tmp_path)
    assert (result.returncode, last_line(result)) == (1, "1 passed, 1 failed")
    assert "test_value was not built" in result.stdout


def test_a_failing_or_missing_fuzz_target_fails_the_run(run_tool, write, tmp_path):
    (tmp_path / "tests").mkdir()
    for name, status in (("fuzz_a", 0), ("fuzz_b", 3)):
        write(f"fuzz/{name}.cpp", "")
        write(f"build/release/fuzz/{name}", f"#!/bin/sh\nexit {status}\n").chmod(0o755)
    write("fuzz/fuzz_c.cpp", "")
    result = run_in(run_tool, tmp_path)
    assert (result.returncode, last_line(result)) == (1, "1 passed, 2 failed")
    assert "fuzz_b ended with status 3" in result.stdout
    assert "fuzz_c was not built" in result.stdout


@pytest.mark.parametrize(
    ("text", "failures"),
    [
        pytest.param("def test_a():\n    assert False\n", 1, id="a test fails"),
        pytest.param("import nothing_of_that_name\n", 1, id="cannot be imported"),
        pytest.param("def helper():\n    pass\n", 1, id="has no tests"),
        # The test, and the program that it took down.
        pytest.param(
            "import os\n\n\ndef test_a():\n    os._exit(0)\n", 2, id="ends the interpreter"
        ),
    ],
)
def test_a_planted_failure_in_python_fails_the_run(run_tool, write, tmp_path, text, failures):
    (tmp_path / "fuzz").mkdir()
    write("tests/python/test_x.py", text)
    result = run_in(run_tool, tmp_path)
    assert (result.returncode, last_line(result)) == (1, f"0 passed, {failures} failed")


def test_suites_are_chosen_by_name(run_tool, add_program, tmp_path):
    add_program("base", program([PASS], 0))
    add_program("value", program([FAIL], 1))
    assert run_in(run_tool, tmp_path, "cpp:base").returncode == 0
    assert run_in(run_tool, tmp_path, "cpp").returncode == 1
    assert run_in(run_tool, tmp_path, "no-such-suite").returncode == 1


def test_an_empty_tree_is_a_failure(run_tool, tmp_path):
    (tmp_path / "tests").mkdir()
    assert run_in(run_tool, tmp_path).returncode == 1
