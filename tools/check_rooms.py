#!/usr/bin/env python3
"""Checks the layering: which module ("room") includes which, and a few habits with that.

    tools/check_rooms.py [ROOT]

Prints `file:line: message` for each problem. Exit status 1 when there is one, or when there was
nothing to check.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

# Which rooms a room may include, besides itself.
BELOW_TRANSFER = {"base", "os", "vm", "value", "device", "memory", "format"}
BELOW_RESTORE = BELOW_TRANSFER | {"transfer", "store", "ranks", "survive"}
ROOMS: dict[str, set[str]] = {
    "base": set(),
    "os": {"base"},
    "vm": {"base", "os"},
    "value": {"base"},
    "device": {"base", "os", "value"},
    "memory": {"base", "os", "vm", "device"},
    "format": {"base", "value"},
    "transfer": BELOW_TRANSFER,
    "stage": BELOW_TRANSFER | {"transfer"},
    "store": {"base", "os", "vm", "format"},
    "survive": {"base", "os", "format", "store", "memory"},
    "ranks": {"base", "value", "format"},
    "restore": BELOW_RESTORE,
    "checkpointer": BELOW_RESTORE | {"stage", "restore"},
    "parts": BELOW_RESTORE | {"stage", "restore", "checkpointer"},
    "inspect": BELOW_RESTORE | {"restore"},
}

# The rooms of the Python binding, folders of python/src/. Objects become Values in `walk`, Values
# become objects in `build`.
PYTHON_ROOMS: dict[str, set[str]] = {
    "core": set(),
    "frameworks": {"core"},
    "walk": {"core", "frameworks"},
    "build": {"core", "frameworks", "walk"},
    "deepcopy": {"core", "frameworks"},
    "bind": {"core", "frameworks", "walk", "build", "deepcopy"},
}

# A public header belongs to the room that implements it.
PUBLIC_HEADERS = {
    "error": "base",
    "system_error": "base",
    "options": "base",
    "process": "base",
    "text": "base",
    "ticket": "base",
    "version": "base",
    "waiting": "base",
    "dtype": "value",
    "tensor": "value",
    "value": "value",
    "loadable": "value",
    "again": "format",
    "chunk": "value",
    "peers": "ranks",
    "stager": "stage",
    "mirror": "stage",
    "files": "restore",
    "checkpointer": "checkpointer",
    "parts": "parts",
    "recover": "checkpointer",
    "inspect": "inspect",
    "understudy": "client",
}

# Clients of the public API: public headers and their own files only.
CLIENTS = ("cli", "python/src", "examples", "bench")

# Libraries of others, by how their headers begin, and who may use them.
EVERYBODY = set(ROOMS) | set(CLIENTS)
LIBRARIES = {
    "fmt/": EVERYBODY,
    "nlohmann/": {"format", "store", "ranks", "inspect", "cli"},
    "xxhash.h": {"format", "bench"},
    "liburing.h": {"os"},
    "CLI/": {"cli"},
    "nanobind/": {"python/src"},
    "Python.h": {"python/src"},
    "immintrin.h": {"transfer", "format", "bench"},  # non-temporal stores, vectors of the hash
    "arm_neon.h": {"transfer", "format"},
    "malloc.h": {"python/src"},  # how long an object of torch's is
    "unwind.h": {"python/src"},  # the end of a thread by pthread_exit
}

# C's own headers are standard, under either name.
C_HEADERS = {"assert.h", "limits.h", "math.h", "stddef.h", "stdint.h", "stdlib.h", "string.h"}

# The operating system's own headers, and errno: only these rooms talk to it.
SYSTEM_ROOMS = {"os", "vm"}
SYSTEM_HEADER = re.compile(
    r"^(sys|linux|asm|arpa|net|netinet)/|^(cerrno|errno|unistd|fcntl|pthread|sched|signal|csignal"
    r"|dirent|dlfcn|poll|semaphore|ftw|glob|pwd|grp|syscall|termios)(\.h)?$"
)
SYSTEM_HEADERS_ALLOWED: dict[str, dict[str, str]] = {
    "src/base/process.cpp": {"unistd.h": "a handle compares getpid, which sets no errno"},
    "src/base/thread.cpp": dict.fromkeys(
        ("pthread.h", "signal.h", "sys/resource.h", "sys/syscall.h", "unistd.h"),
        "threads live in base: their names, signal masks and priorities",
    ),
    "src/value/tensor.cpp": {"sys/mman.h": "memory of a storage; os stands beside value"},
}

# Long files hold two ideas; one that does not is named here with its reason.
MAX_LINES = 400
LONG_FILES_ALLOWED: dict[str, str] = {}

SOURCES = {".h", ".cpp", ".inc", ".py", ".pyi"}
FOLDERS = ("include", "src", "cli", "python", "tests", "fuzz", "bench", "examples", "tools")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]')
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME)\b")
# Ends the process when a daemon thread asks for the GIL at exit; core/gil.h does not.
TAKES_THE_GIL = re.compile(r"gil_scoped_|\bPyEval_(Save|Restore)Thread\b|\bPyGILState_Ensure\b")
GIL_ALLOWED = {"python/src/core/gil.h", "python/src/core/parked.cpp"}
PRINTS = re.compile(r"std::(cout|cerr|clog|abort|exit)\b|\bf?printf\(|fmt::print\b|\.detach\(\)")


class Checker:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.problems: list[str] = []
        self.files = 0
        self.graph: dict[str, list[str]] = {}  # file to the files that it includes

    def problem(self, file: str, line: int, message: str) -> None:
        self.problems.append(f"{file}:{line}: {message}")

    def run(self) -> None:
        for folder in FOLDERS:
            for path in sorted((self.root / folder).rglob("*")):
                if path.suffix in SOURCES and path.is_file():
                    self.check_file(path)
        self.check_cycles()

    def check_file(self, path: Path) -> None:
        self.files += 1
        file = path.relative_to(self.root).as_posix()
        lines = path.read_text(encoding="utf-8").splitlines()
        if len(lines) > MAX_LINES and file not in LONG_FILES_ALLOWED:
            self.problem(file, len(lines), f"longer than {MAX_LINES} lines: it holds two ideas")
        for number, line in enumerate(lines, 1):
            if UNFINISHED.search(line):
                self.problem(file, number, "unfinished work belongs to the issue tracker")
        if path.suffix in {".py", ".pyi"}:
            return
        if path.suffix == ".h" and "#pragma once" not in lines:
            self.problem(file, 1, "a header without #pragma once")
        includes = [
            (number, match[1] == '"', match[2])
            for number, line in enumerate(lines, 1)
            if (match := INCLUDE.match(line))
        ]
        self.graph[file] = [
            found for _, _, name in includes if (found := self.find(path, name)) is not None
        ]
        room = self.room_of(file)
        if room is None:
            return
        for number, quoted, name in includes:
            self.check_include(file, number, room, quoted, name)
        if path.suffix == ".cpp":
            self.check_own_header_first(path, file, includes)
        if room in ROOMS:
            self.check_habits_of_the_library(file, room, lines)
        if room == "python/src" and file not in GIL_ALLOWED:
            for number, line in enumerate(lines, 1):
                if TAKES_THE_GIL.search(line):
                    self.problem(file, number, "the GIL is let go and taken by core/gil.h only")

    @staticmethod
    def room_of(file: str) -> str | None:
        """The room of a file, its client's folder, or nothing (tests and fuzz targets)."""
        parts = file.split("/")
        if parts[0] == "src":
            return parts[1]
        if parts[0] == "include":
            return PUBLIC_HEADERS.get(parts[-1].removesuffix(".h"), "unknown")
        return next((folder for folder in CLIENTS if file.startswith(folder + "/")), None)

    def find(self, path: Path, name: str) -> str | None:
        for base in (path.parent, *(self.root / f for f in ("src", "python/src", "include"))):
            if (base / name).is_file():
                return (base / name).resolve().relative_to(self.root.resolve()).as_posix()
        return None

    def check_include(self, file: str, number: int, room: str, quoted: bool, name: str) -> None:
        if room != "client" and room not in ROOMS and room not in CLIENTS:
            self.problem(file, number, f"no room is called {room}")
            return
        first = name.split("/")[0]
        if first == "understudy":
            self.check_public(file, number, room, name)
        elif room == "python/src" and quoted and first in PYTHON_ROOMS:
            self.check_python_room(file, number, first, name)
        elif first in ROOMS and "/" in name:
            if room in CLIENTS or room == "client" or file.startswith("include/"):
                self.problem(file, number, f"{name} is private: only understudy/*.h is public")
            elif first != room and first not in ROOMS[room]:
                self.problem(file, number, f"room {room} may not include {first} ({name})")
        elif SYSTEM_HEADER.search(name):
            allowed = SYSTEM_HEADERS_ALLOWED.get(file, {})
            if room in ROOMS.keys() - SYSTEM_ROOMS and name not in allowed:
                self.problem(file, number, f"<{name}>: only rooms os and vm talk to the system")
        elif library := next((key for key in LIBRARIES if name.startswith(key)), None):
            if room not in LIBRARIES[library]:
                self.problem(file, number, f"room {room} may not use {name}")
        elif quoted:
            beside = (self.root / file).parent / name
            if room in {*ROOMS, "python/src"} or "/" in name or not beside.exists():
                self.problem(file, number, f"{name}: name it with its room (room/header.h)")
        elif re.search(r"[./]", name) and room not in SYSTEM_ROOMS and name not in C_HEADERS:
            self.problem(file, number, f"<{name}>: not a standard header, and no library we know")

    def check_python_room(self, file: str, number: int, first: str, name: str) -> None:
        own = file.split("/")[2]
        if own not in PYTHON_ROOMS:
            self.problem(file, number, f"no room of python/src is called {own}")
        elif first != own and first not in PYTHON_ROOMS[own]:
            self.problem(file, number, f"room python/src/{own} may not include {first} ({name})")

    def check_public(self, file: str, number: int, room: str, name: str) -> None:
        owner = PUBLIC_HEADERS.get(name.removeprefix("understudy/").removesuffix(".h"))
        if owner is None:
            self.problem(file, number, f"{name}: the table of public headers does not have it")
        elif room in ROOMS and owner != room and owner not in ROOMS[room]:
            self.problem(file, number, f"room {room} may not include {name}, which is {owner}'s")

    def check_own_header_first(
        self, path: Path, file: str, includes: list[tuple[int, bool, str]]
    ) -> None:
        """A header that is included first cannot lean on what came before it."""
        own = path.with_suffix(".h")
        public = self.root / "include" / "understudy" / own.name
        if own.is_file():
            wanted = own
        elif public.is_file() and file.startswith("src/"):
            wanted = public
        else:
            return
        first = self.find(path, includes[0][2]) if includes else None
        if first != wanted.relative_to(self.root).as_posix():
            line = includes[0][0] if includes else 1
            self.problem(file, line, f"the first include is not its own header {wanted.name}")

    def check_habits_of_the_library(self, file: str, room: str, lines: list[str]) -> None:
        for number, line in enumerate(lines, 1):
            code = line.split("//")[0]
            if match := PRINTS.search(code):
                self.problem(file, number, f"{match[0]}: the library never prints, exits, detaches")
            if room not in SYSTEM_ROOMS and re.search(r"\berrno\b", code):
                self.problem(file, number, "errno exists in rooms os and vm only")

    def check_cycles(self) -> None:
        done: set[str] = set()
        for start in self.graph:
            self.look_for_cycle(start, [], done)

    def look_for_cycle(self, file: str, way: list[str], done: set[str]) -> None:
        if file in way:
            self.problem(file, 1, "a cycle: " + " -> ".join([*way[way.index(file) :], file]))
        elif file not in done:
            for included in self.graph.get(file, []):
                self.look_for_cycle(included, [*way, file], done)
            done.add(file)


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    checker = Checker(root)
    checker.run()
    for problem in checker.problems:
        print(problem)
    print(f"check_rooms: {checker.files} files, {len(checker.problems)} problems")
    return 1 if checker.problems or checker.files == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
