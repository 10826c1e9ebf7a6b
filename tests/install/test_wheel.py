"""The wheel: built as a user builds it, installed into an empty environment, used from there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from installing import ROOT, run

SMOKE = ROOT / "tests" / "install" / "smoke.py"
THIS_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER_VERSIONS = [v for v in ("3.10", "3.11", "3.12", "3.13", "3.14") if v != THIS_VERSION]


def build_wheel(python: Path, folder: Path) -> Path:
    # The developer's flags only so that ccache knows the objects.
    settings = "--config-settings=cmake.define.UNDERSTUDY_DEVELOPER=ON"
    flags = ["--no-build-isolation", "--no-deps", settings, "-w", folder]
    run([python, "-m", "pip", "wheel", ROOT, *flags])
    (wheel,) = folder.glob("*.whl")
    return wheel


def make_environment(python: Path, wheel: Path, folder: Path) -> Path:
    """An environment with the wheel and nothing else; gives its interpreter."""
    run([python, "-m", "venv", folder])
    inside = folder / "bin" / "python"
    run([inside, "-m", "pip", "install", "--no-index", wheel])
    return inside


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(Path(sys.executable), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    return make_environment(Path(sys.executable), wheel, tmp_path_factory.mktemp("environment"))


def test_it_works_without_torch_and_without_numpy(python):
    assert run([python, SMOKE]).startswith("fine without NumPy")


def test_it_works_with_numpy(python, tmp_path):
    for found in Path(sysconfig.get_path("purelib")).glob("numpy*"):
        (tmp_path / found.name).symlink_to(found)
    assert run([python, SMOKE], PYTHONPATH=str(tmp_path)).startswith("fine with NumPy")


def test_it_brings_the_program(python, tmp_path):
    save = f"import understudy; understudy.save_file({{'a': 1}}, '{tmp_path}/a.safetensors')"
    run([python, "-c", save])
    program = python.parent / "understudy"
    run([program, "verify", tmp_path / "a.safetensors"])
    assert json.loads(run([program, "show", tmp_path / "a.safetensors", "--json"]))


def test_it_has_types_and_licence_and_nothing_of_the_build(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "understudy/py.typed" in names
    assert any(re.search(r"licenses/LICENSE$|dist-info/LICENSE$", name) for name in names)
    assert any(name.endswith(".pyi") for name in names)
    assert not [n for n in names if n.endswith((".a", ".h", ".cmake", ".cpp")) or "test" in n]


def find_python(version: str) -> Path | None:
    """An interpreter of this version, on the path or kept by pyenv."""
    kept = Path.home().glob(f".pyenv/versions/{version}.*/bin/python")
    for candidate in [shutil.which(f"python{version}"), *kept]:
        # One on the path may be a shim for a version that is not there.
        if candidate and not subprocess.run([candidate, "-c", ""], capture_output=True).returncode:
            return Path(candidate)
    return None


def find_build_tools(python: Path, version: str) -> Path:
    """An interpreter of this version with the build tools, kept between runs."""
    folder = ROOT / "build" / f"python{version}"
    inside = folder / "bin" / "python"
    pins = "\n".join(
        pin
        for name in ("demo", "dev")
        for pin in (ROOT / "tools" / f"requirements-{name}.txt").read_text().splitlines()
        if re.match("nanobind|scikit-build-core|numpy", pin)
    )
    complete = folder / "complete"  # holds what was installed
    if not complete.exists() or complete.read_text() != pins:
        run([python, "-m", "venv", "--clear", folder])
        pins_file = folder / "requirements.txt"
        pins_file.write_text(pins)
        command = [inside, "-m", "pip", "install", "-q", "-r", pins_file]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            pytest.skip(f"pip cannot install the build tools: {result.stderr.strip()[-200:]}")
        complete.write_text(pins)
    return inside


@pytest.fixture(scope="module")
def wheel_of(wheel, tmp_path_factory):
    """The wheel for a version of Python: from 3.12 on one serves all, by the stable ABI."""
    made = {THIS_VERSION: wheel} if THIS_VERSION <= "3.12" else {"3.12": wheel}

    def make(version: str) -> Path:
        built_for = version if version in ("3.10", "3.11") else "3.12"
        if built_for not in made:
            python = find_python(built_for)
            if python is None:
                pytest.skip(f"no Python {built_for} on this machine, which builds for {version}")
            tools = find_build_tools(python, built_for)
            made[built_for] = build_wheel(tools, tmp_path_factory.mktemp("wheel"))
        return made[built_for]

    return make


@pytest.mark.parametrize("version", OTHER_VERSIONS)
def test_other_versions_of_python(version, wheel_of, tmp_path):
    python = find_python(version)
    if python is None:
        pytest.skip(f"no Python {version} on this machine")
    find_build_tools(python, version)  # for its NumPy
    inside = make_environment(python, wheel_of(version), tmp_path / "environment")
    packages = tmp_path / "packages"
    packages.mkdir()
    for found in (ROOT / "build" / f"python{version}").glob("lib/python*/site-packages/numpy*"):
        (packages / found.name).symlink_to(found)
    assert f"on {version}." in run([inside, SMOKE], PYTHONPATH=str(packages))
    assert f"on {version}." in run([inside, SMOKE], PYTHONPATH=os.devnull)
