"""The site is whole, and a browser shows it as readers see it."""

from __future__ import annotations

import importlib.util
import shutil

import pytest
from conftest import PAGE_LIMIT_S, ROOT

PLANTED = [
    ("[x](gone.md)\n", "cross-reference target not found: 'gone.md'"),
    ("[x](commit.md#no-such-heading)\n", "no-such-heading"),
    ("```{eval-rst}\n.. autoclass:: understudy.Stagger\n```\n", "failed to import 'Stagger'"),
]


def load_build_docs():
    spec = importlib.util.spec_from_file_location("build_docs", ROOT / "tools/build_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def write_tree(tmp_path):
    """A tree with one page, what it links to, and what the settings read."""

    def write(text):
        root = tmp_path / "tree"
        for name in ("include", "docs/_static"):
            shutil.copytree(ROOT / name, root / name)
        shutil.copy(ROOT / "docs/conf.py", root / "docs/conf.py")
        (root / "docs/commit.md").write_text("# The commit\n\n## The protocol\n\nBy numbers.\n")
        (root / "python/understudy").mkdir(parents=True)
        shutil.copy(ROOT / "python/understudy/_core.pyi", root / "python/understudy")
        toctree = "```{toctree}\ncommit\n```\n"
        (root / "docs/index.md").write_text(f"# Top\n\n{toctree}\n{text}")
        return root

    return write


def test_what_a_page_has_wrong_fails_the_build(build_site, write_tree, tmp_path):
    result = build_site(tmp_path / "site", write_tree("".join(text for text, _ in PLANTED)))
    assert result.returncode == 1
    for _, message in PLANTED:
        assert message in result.stderr


def test_a_page_with_nothing_wrong_is_built(build_site, write_tree, tmp_path):
    result = build_site(tmp_path / "site", write_tree("[x](commit.md#the-protocol)\n"))
    assert (result.returncode, result.stderr) == (0, "")


def test_broken_links_of_the_built_pages_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here">1</a><a href="b.html#there">2</a><img src="c.png">'
        '<a href="https://example.org/x">3</a><a href="#top">4</a><p id="top">'
    )
    (tmp_path / "b.html").write_text('<p id="here">')
    assert list(load_build_docs().broken_links(tmp_path)) == [
        "a.html: b.html#there names nothing on that page",
        "a.html: the link to c.png leads nowhere",
    ]


@pytest.fixture
def open_page(address, browser):
    """Opens a page; what it wrote to the console is a failure at the end of the test."""
    browser.get_log("browser")
    browser.set_window_size(1400, 1000)

    def open_page(name):
        browser.get(f"{address}/{name}")
        return browser

    yield open_page
    assert [line["message"] for line in browser.get_log("browser")] == []


def test_the_first_page_has_its_title_and_leads_on_by_a_click(open_page):
    browser = open_page("index.html")
    assert browser.title.startswith("Understudy")
    navigation = browser.find_element("css selector", ".sidebar-tree")
    for caption in ("GUIDES", "REFERENCE", "PROTOCOLS", "PERFORMANCE", "PROJECT"):
        assert caption in navigation.text.upper()
    navigation.find_element("link text", "First five minutes").click()
    assert browser.current_url.endswith("/start.html")
    assert browser.find_element("tag name", "h1").text.startswith("First five minutes")


def test_the_search_finds_a_function(open_page):
    from selenium.webdriver.support.wait import WebDriverWait

    browser = open_page("index.html")
    box = browser.find_element("css selector", "input.sidebar-search")
    box.send_keys("prewarm")
    box.submit()
    found = WebDriverWait(browser, PAGE_LIMIT_S).until(
        lambda page: page.find_elements("css selector", "#search-results li a")
    )
    assert any("python.html" in link.get_attribute("href") for link in found)


def test_no_page_is_wider_than_its_window(site, open_page):
    """A phone's width: wide tables and code scroll by themselves."""
    for page in sorted(site.rglob("*.html")):
        browser = open_page(page.relative_to(site))
        browser.set_window_size(500, 900)
        width, window = browser.execute_script(
            "return [document.documentElement.scrollWidth, window.innerWidth]"
        )
        assert width <= window, page.name
