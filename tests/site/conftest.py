"""The site is built once for all its tests. Where what builds or shows it is not installed, the
tests are skipped and say so; `make docs-test` installs it."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What has not loaded by then never will: the pages come from this machine.
PAGE_LIMIT_S = 120


@pytest.fixture(scope="session")
def build_site() -> Callable[..., subprocess.CompletedProcess[str]]:
    for module in ("sphinx", "myst_parser", "furo", "breathe"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed; make docs installs it")
    if shutil.which("doxygen") is None:
        pytest.skip("doxygen is not installed; make docs installs it")

    def build(output: Path, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "tools/build_docs.py"), "--root", str(root)]
        return subprocess.run(
            [*command, str(output)], capture_output=True, text=True, check=False, timeout=600
        )

    return build


@pytest.fixture(scope="session")
def site(build_site: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output: Path = tmp_path_factory.mktemp("docs") / "site"
    result = build_site(output)
    assert result.returncode == 0, result.stdout + result.stderr
    return output


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """Where a server of this machine shows the site: pages from files may not fetch others, as the
    search does."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, without a window. Its console is kept for the tests to read."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None or importlib.util.find_spec("selenium") is None:
        pytest.skip("no chromium, chromedriver and selenium; make docs-test installs them")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    # CI runs as root in a container: no sandbox, and little shared memory.
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=driver)
    opened = webdriver.Chrome(options=options, service=service)
    try:
        opened.set_page_load_timeout(PAGE_LIMIT_S)
        yield opened
    finally:
        opened.quit()
