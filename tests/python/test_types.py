"""The package is typed: the stub says what the module has."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

from conftest import child_environment

import understudy
from understudy import _core


def parameters(function: ast.FunctionDef) -> list[str]:
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args) if a.arg != "self"]
    return names + (["*"] if arguments.kwonlyargs else []) + [a.arg for a in arguments.kwonlyargs]


def parse_runtime(function: object) -> list[str]:
    """Parameters as nanobind knows them: its signatures are Python's, but for the defaults."""
    ((signature, *_),) = function.__nb_signature__
    return parameters(ast.parse(re.sub(r"\\\d+", "None", signature) + ": ...").body[0])


def test_the_stub_matches_the_module():
    """Every public name, and the parameters of every function, in order."""
    stub = ast.parse((Path(understudy.__file__).parent / "_core.pyi").read_text())
    functions = {n.name: n for n in stub.body if isinstance(n, ast.FunctionDef)}
    classes = {
        n.name: {m.name: m for m in n.body if isinstance(m, ast.FunctionDef)}
        for n in stub.body
        if isinstance(n, ast.ClassDef) and not n.name.startswith("_")
    }
    public = {n for n in vars(_core) if not n.startswith("__")}
    assert public == set(functions) | set(classes)
    checked = 0
    for name, function in functions.items():
        assert parse_runtime(getattr(_core, name)) == parameters(function), name
        checked += 1
    for name, members in classes.items():
        cls = getattr(_core, name)
        public = {n for n in vars(cls) if not n.startswith("_")} - {"code"}
        assert public == {n for n in members if not n.startswith("_")}, name
        for method, function in members.items():
            runtime = inspect.getattr_static(cls, method)
            is_property = any(getattr(d, "id", "") == "property" for d in function.decorator_list)
            assert is_property == isinstance(runtime, property), f"{name}.{method}"
            if not is_property and method != "__exit__":
                assert parse_runtime(runtime) == parameters(function), f"{name}.{method}"
                checked += 1
    assert checked > 20


def test_the_package_says_that_it_is_typed():
    assert (Path(understudy.__file__).parent / "py.typed").exists()


def test_users_code_is_checked(tmp_path):
    """Good uses pass strictly, bad ones are found."""
    good = (
        "import understudy\n"
        "from pathlib import Path\n"
        "ckpt = understudy.Checkpointer('d', keep=3, memory='auto')\n"
        "path: Path = ckpt.save(1, {}).wait()\n"
        "with understudy.Stager() as stager:\n"
        "    snapshot: understudy.Snapshot = stager.stage({}).wait(timeout=1.0)\n"
        "    n: int = snapshot.nbytes\n"
        "step: int = ckpt.resume({'rng': understudy.torch.RngState()}) or 0\n"
        "t: understudy.Ticket[Path] = ckpt.save(2, {}, metadata={'a': 1})\n"
        "s: float = t.metrics()['blocked_s']\n"
    )
    bad = good + "understudy.Stager(memory='ram')\n" + "ckpt.restore(names=3)\n"
    for text, status, errors in ((good, 0, 0), (bad, 1, 2)):
        (tmp_path / "use.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "use.py"],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**child_environment(), "MYPYPATH": ""},
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert done.stdout.count(" error:") == errors, done.stdout


def test_names_are_public():
    assert set(understudy.__all__) >= {
        "Checkpointer", "Stager", "Snapshot", "Ticket", "save_file", "load_file", "Error", "torch",
    }  # fmt: skip
    for name in understudy.__all__:
        value = getattr(understudy, name)
        if inspect.isclass(value):
            assert value.__module__ == "understudy", name
    assert understudy.Ticket[understudy.Snapshot] is not None
    assert understudy.__version__ == "0.1.0"
