from __future__ import annotations

from pathlib import Path

from conftest import Cli

NAMES = [
    "huge pages",
    "userfaultfd",
    "io_uring",
    "direct I/O",
    "writer",
    "shared memory",
    "CUDA",
    "cores",
    "memory",
]


def test_json(cli: Cli, tmp_path: Path) -> None:
    got = cli("doctor", tmp_path, "--json").json
    assert got["directory"] == str(tmp_path)
    assert [probe["name"] for probe in got["probes"]] == NAMES
    for probe in got["probes"]:
        assert set(probe) == {"name", "is_available", "detail", "cost", "remedy"}
        assert probe["detail"]
        assert probe["cost"]
    assert list(tmp_path.iterdir()) == []


def test_the_writer_is_named_with_reasons(cli: Cli, tmp_path: Path) -> None:
    def find(folder: Path | str) -> dict[str, str]:
        probes = cli("doctor", folder, "--json").json["probes"]
        (found,) = [probe for probe in probes if probe["name"] == "writer"]
        return found

    found = find(tmp_path)
    assert found["detail"].split(";")[0] in ("io_uring", "threads", "buffered")
    assert found["is_available"] == (not found["detail"].startswith("buffered"))
    nowhere = find("/proc")
    assert not nowhere["is_available"]
    assert "/proc" in nowhere["detail"]


def test_text(cli: Cli, tmp_path: Path) -> None:
    text = cli("doctor", tmp_path).out
    probes = cli("doctor", tmp_path, "--json").json["probes"]
    for probe in probes:
        (line,) = [line for line in text.splitlines() if line.startswith(probe["name"] + " ")]
        assert line.removeprefix(probe["name"]).split()[0] == (
            "yes" if probe["is_available"] else "no"
        )
    missing = [probe for probe in probes if not probe["is_available"]]
    assert text.count("without it: ") == len(missing)
    assert text.count("remedy: ") == len([p for p in missing if p["remedy"]])


def test_direct_io_where_nothing_can_be_written(cli: Cli) -> None:
    probes = cli("doctor", "/proc", "--json").json["probes"]
    (direct,) = [probe for probe in probes if probe["name"] == "direct I/O"]
    assert not direct["is_available"]
    assert "/proc" in direct["detail"]


def test_the_folder_here_is_the_default(cli: Cli, tmp_path: Path) -> None:
    assert cli("doctor", "--json", cwd=tmp_path).json["directory"] == "."


def test_no_folder(cli: Cli, tmp_path: Path) -> None:
    got = cli("doctor", tmp_path / "no", "--json", status=2)
    assert got.json["error"]["code"] == "not_found"
