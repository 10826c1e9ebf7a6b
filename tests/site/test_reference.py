"""Every public name is in the reference, and every argument is described."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import xml.etree.ElementTree as ET
from html import unescape

import pytest
from conftest import ROOT

STUB = ast.parse((ROOT / "python/understudy/_core.pyi").read_text("utf-8"))
HEADERS = sorted((ROOT / "include/understudy").glob("*.h"))


def load_modules():
    names = ["understudy", "understudy.torch"]
    try:
        importlib.import_module("torch")
    except ImportError:
        return [importlib.import_module(name) for name in names]
    return [importlib.import_module(name) for name in [*names, "understudy.dcp"]]


def stub_arguments():
    """For each function of the stub the names of its arguments, by `Class.name` or `name`."""
    found = {}

    def read(body, prefix):
        for node in body:
            if isinstance(node, ast.ClassDef):
                read(node.body, f"{node.name}.")
            elif isinstance(node, ast.FunctionDef):
                names = [a.arg for a in [*node.args.args, *node.args.kwonlyargs]]
                found[prefix + node.name] = [name for name in names if name != "self"]

    read(STUB.body, "")
    return found


STUB_ARGUMENTS = stub_arguments()


def arguments_of(path, function):
    if path in STUB_ARGUMENTS:
        return STUB_ARGUMENTS[path]
    names = list(inspect.signature(function).parameters)
    return [name for name in names if name != "self"]


def public_members(cls):
    for name, member in vars(cls).items():
        if not name.startswith("_"):
            yield name, member


def public_names():
    """(the name in the reference, the object, whose docstring, its arguments)"""
    for module in load_modules():
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.ismodule(thing):
                continue
            path = f"{module.__name__}.{name}"
            if not inspect.isclass(thing):
                arguments = arguments_of(name, thing) if callable(thing) else []
                yield path, thing, thing.__doc__, arguments
                continue
            makes = f"{name}.__init__"
            is_made = makes in STUB_ARGUMENTS or inspect.isfunction(vars(thing).get("__init__"))
            documented = f"{thing.__doc__}\n{thing.__init__.__doc__}"
            arguments = arguments_of(makes, thing.__init__) if is_made else []
            yield path, thing, documented, arguments
            for member_name, member in public_members(thing):
                is_callable = callable(member)
                arguments = arguments_of(f"{name}.{member_name}", member) if is_callable else []
                yield f"{path}.{member_name}", member, member.__doc__, arguments


def described(documentation):
    """The arguments that a docstring has a line `name: text` for."""
    return set(re.findall(r"^\s*(\w+): \S", documentation or "", re.MULTILINE))


def says_something(documentation):
    """nanobind writes the signature by itself; that alone says nothing."""
    lines = [line.strip() for line in (documentation or "").splitlines()]
    return any(line and not re.search(r"^(def )?\w*\(.*\) -> ", line) for line in lines)


PUBLIC = {path: rest for path, *rest in public_names()}


def test_the_public_names_are_found():
    assert {"understudy.Checkpointer.save", "understudy.torch.RngState"} <= PUBLIC.keys()
    assert PUBLIC["understudy.Checkpointer.restore"][2] == ["step", "names", "source"]


@pytest.mark.parametrize("path", [path for path in PUBLIC if path != "understudy.__version__"])
def test_a_public_name_and_its_arguments_are_described(path):
    _, documentation, arguments = PUBLIC[path]
    assert says_something(documentation), f"{path} has no description"
    missing = set(arguments) - {"_nil"} - described(documentation)
    assert not missing, f"{path} does not describe {sorted(missing)}"


def test_a_missing_description_is_found():
    assert described("save(self, step: int) -> None\n\nSave.\n\nstep: its number.") == {"step"}
    assert not says_something("(self) -> pathlib.Path")
    assert says_something("(self) -> int\n\nThe newest.")


def declared_on(page):
    """The names that a page of the reference declares, as Sphinx marks them."""
    names = re.findall(r'class="sig-name descname">(.*?)</span></span>', page)
    return {unescape(re.sub(r"<[^>]+>", "", name)) for name in names}


def test_each_python_name_is_in_the_reference(site):
    page = (site / "reference/python.html").read_text("utf-8")
    missing = [path for path in PUBLIC if f'id="{path}"' not in page]
    assert not missing


def declarations(text):
    """The names that a header declares: types, functions, variables, members, enumerators. Read
    from the text, with nothing of what makes the reference."""
    text = re.sub(r"//[^\n]*|^\s*#[^\n]*", "", text, flags=re.MULTILINE)
    text = re.sub(r"\b(?:class|struct) \w+;", "", text)  # declared elsewhere
    text = re.sub(r"\b(?:private|protected):.*?(?=\n\};|\bpublic:)", "", text, flags=re.DOTALL)
    names = set(re.findall(r"\b(?:class|struct|enum class)\s+(\w+)\s*(?::[^{;]*)?\{", text))
    for body in re.findall(r"\benum class \w+[^{]*\{([^}]*)\}", text):
        names |= set(re.findall(r"\b([a-z_]\w*)\b", body))
    names |= set(re.findall(r"\busing (\w+) =", text))
    # A function: its name, arguments without braces inside, then a body, an end or a qualifier.
    names |= set(re.findall(r"^\s+?[\w:<>,&*\s]+?[\s&*](\w+)\([^;{]*(?:;|\{)", text, re.MULTILINE))
    names |= set(re.findall(r"^[\w:<>,&*\s]+?[\s&*](\w+)\([^;{]*(?:;|\{)", text, re.MULTILINE))
    # A variable or a field: a type, a name, perhaps a value.
    names |= set(
        re.findall(r"^\s*[\w:<>,&* ]+[ &*>](\w+)(?:\{\}| = [^;()]+)?;", text, re.MULTILINE)
    )
    return names - {"return", "default", "noexcept", "const", "delete"}


def test_declarations_are_found():
    text = (ROOT / "include/understudy/ticket.h").read_text("utf-8")
    assert {"Timeout", "Metrics", "durable_s", "Ticket", "wait", "is_done"} <= declarations(text)
    text = (ROOT / "include/understudy/options.h").read_text("utf-8")
    assert {"WriterChoice", "io_uring", "overlapped", "FileMetadata"} <= declarations(text)


@pytest.mark.parametrize("header", HEADERS, ids=lambda path: path.name)
def test_each_declaration_of_a_header_is_in_the_reference(header, site):
    pages = [path.read_text("utf-8") for path in (site / "reference").glob("cpp*.html")]
    pages = [page for page in pages if f"understudy/{header.name}" in page]
    assert pages, f"{header.name} is on no page of docs/reference"
    missing = declarations(header.read_text("utf-8")) - set().union(*map(declared_on, pages))
    assert not missing


def undescribed(xml):
    """The public declarations in a file of Doxygen that have no comment. What the language makes
    by itself needs none: destructors, assignments, moves."""
    for compound in ET.parse(xml).iter("compounddef"):
        if compound.get("kind") in ("file", "dir", "page") or compound.get("prot") == "private":
            continue
        scope = compound.findtext("compoundname")
        for node in [compound, *compound.iter("memberdef")]:
            name = node.findtext("name") or scope
            arguments = node.findtext("argsstring") or ""
            by_itself = re.match(r"~|operator=", name) or re.search(r"&&|=\s*delete", arguments)
            if by_itself or node.get("prot") in ("private", "protected") or name == "understudy":
                continue
            parts = [node.find("briefdescription"), node.find("detaileddescription")]
            if not any("".join(part.itertext()).strip() for part in parts if part is not None):
                yield name if node is compound else f"{scope}::{name}"


def test_each_declaration_has_a_comment(site):
    files = sorted(site.with_name("site-xml").glob("*understudy*.xml"))
    assert len(files) > 20
    assert [name for file in files for name in undescribed(file)] == []


def test_a_missing_comment_is_found(tmp_path):
    (tmp_path / "x.xml").write_text(
        "<doxygen><compounddef kind='struct' prot='public'><compoundname>a::B</compoundname>"
        "<memberdef prot='public'><name>bare</name></memberdef>"
        "<memberdef prot='private'><name>hidden</name></memberdef>"
        "<memberdef prot='public'><name>operator=</name></memberdef>"
        "<memberdef prot='public'><name>told</name><briefdescription><para>Yes.</para>"
        "</briefdescription></memberdef></compounddef></doxygen>"
    )
    assert list(undescribed(tmp_path / "x.xml")) == ["a::B", "a::B::bare"]
