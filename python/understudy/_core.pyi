from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Literal, TypedDict, TypeVar

from torch import Tensor, UntypedStorage
from typing_extensions import Self

from understudy._peers import Peers

_T = TypeVar("_T", covariant=True)
_Path = str | PathLike[str]
_Code = Literal[
    "invalid",
    "unsupported",
    "not_found",
    "corrupt",
    "io",
    "no_space",
    "busy",
    "timeout",
    "closed",
]
_Memory = Literal["auto", "pageable", "pinned", "shared"]
_Capture = Literal["auto", "blocking", "overlapped"]
_Writer = Literal["auto", "io_uring", "threads", "buffered"]
_WhenBusy = Literal["wait", "skip", "error"]

class _Metrics(TypedDict):
    blocked_s: float
    waited_s: float
    captured_s: float
    durable_s: float
    nbytes: int
    memory: str
    plan: Literal["new", "same", "again"]
    at_once_nbytes: int
    faults: int
    faults_nbytes: int
    writer: str
    newer_step: int | None
    unremoved: str

__version__: str

class Error(Exception):
    code: _Code

def _error(code: str, text: str, errno: int | None = None) -> Error: ...
def save_file(
    state: Any,
    path: _Path,
    *,
    metadata: dict[str, str] | None = None,
    allow_pickle: bool = False,
    writer: _Writer = "auto",
) -> None: ...
def load_file(
    path: _Path,
    *,
    names: str | Sequence[str] | None = None,
    mmap: bool = False,
    verify: bool = True,
    allow_pickle: bool = False,
) -> Any: ...

class Ticket(Generic[_T]):
    def wait(self, timeout: float | None = None) -> _T: ...
    def done(self) -> bool: ...
    def wait_captured(self, timeout: float | None = None) -> None: ...
    def is_captured(self) -> bool: ...
    def progress(self) -> tuple[int, int]: ...
    def exception(self) -> BaseException | None: ...
    @property
    def capture(self) -> str: ...
    def metrics(self) -> _Metrics: ...

class Snapshot:
    def state(self) -> Any: ...
    @property
    def nbytes(self) -> int: ...
    def save_file(self, path: _Path, *, metadata: dict[str, str] | None = None) -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

class Stager:
    def __init__(
        self,
        *,
        images: int = 2,
        memory: _Memory = "auto",
        capture: _Capture = "auto",
        when_busy: _WhenBusy = "wait",
        huge_pages: bool = False,
        threads: int | None = None,
    ) -> None: ...
    def stage(self, state: Any) -> Ticket[Snapshot]: ...
    def prewarm(self, state: Any) -> Ticket[int]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

class Keep:
    def __init__(
        self,
        *,
        last: int = 1,
        every: int | None = None,
        best: tuple[str, Literal["min", "max"], int] | None = None,
    ) -> None: ...
    @property
    def last(self) -> int: ...
    @property
    def every(self) -> int | None: ...
    @property
    def best(self) -> tuple[str, Literal["min", "max"], int] | None: ...

class Checkpoint:
    @property
    def step(self) -> int: ...
    @property
    def state(self) -> Any: ...
    @property
    def metadata(self) -> dict[str, Any] | None: ...
    @property
    def source(self) -> Literal["disk", "memory"]: ...
    @property
    def reader(self) -> str: ...

class Resumed:
    @property
    def step(self) -> int: ...
    @property
    def source(self) -> Literal["disk", "memory"]: ...
    @property
    def reader(self) -> str: ...
    @property
    def skipped(self) -> list[tuple[int, str]]: ...
    @property
    def discarded(self) -> list[int]: ...
    @property
    def missing(self) -> list[str]: ...
    @property
    def unexpected(self) -> list[str]: ...
    @property
    def mismatched(self) -> list[str]: ...

class Checkpointer:
    def __init__(
        self,
        directory: _Path,
        *,
        keep: int | Keep | None = None,
        memory: _Memory = "auto",
        group: Any = None,
        timeout: float = 600.0,
        per_rank: str | Sequence[str] = (),
        survive: bool | _Path = False,
        when_no_room: Literal["error", "go_on"] = "error",
        capture: _Capture = "auto",
        images: int = 2,
        when_busy: _WhenBusy = "wait",
        huge_pages: bool = False,
        threads: int | None = None,
        allow_pickle: bool = False,
        writer: _Writer = "auto",
        max_write_rate: float | None = None,
    ) -> None: ...
    @property
    def directory(self) -> Path: ...
    @property
    def resumed(self) -> Resumed | None: ...
    @property
    def _last_save(self) -> tuple[int, Ticket[Path]] | None: ...
    @property
    def _peers(self) -> Peers | None: ...
    def save(
        self,
        step: int,
        state: Any,
        *,
        metadata: dict[str, Any] | None = None,
        overwrite: bool = False,
        urgent: bool = False,
    ) -> Ticket[Path]: ...
    def prewarm(self, state: Any) -> Ticket[int]: ...
    def restore(
        self,
        step: int | None = None,
        *,
        names: str | Sequence[str] | None = None,
        source: Literal["auto", "memory", "disk"] = "auto",
    ) -> Checkpoint: ...
    def resume(
        self,
        state: Any,
        *,
        step: int | None = None,
        names: str | Sequence[str] | None = None,
        strict: bool = True,
        rename: dict[str, str] | Callable[[str], str] | None = None,
        convert: bool = False,
        on_damage: Literal["error", "previous"] = "error",
        source: Literal["auto", "memory", "disk"] = "auto",
        discard_newer: bool = False,
    ) -> int | None: ...
    def steps(self) -> list[int]: ...
    def latest(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> bool: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...

def _use_exchange_api(use: bool) -> None: ...
def _use_peek(use: bool) -> bool: ...
def _how_tensors_are_known() -> str: ...

class SharedSegment:
    @staticmethod
    def map(fd: int, nbytes: int) -> SharedSegment: ...
    @staticmethod
    def at(address: int) -> SharedSegment | None: ...
    def storage(self, offset: int, nbytes: int) -> UntypedStorage: ...
    @property
    def data_ptr(self) -> int: ...
    @property
    def fd(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

class TensorStager:
    def __init__(
        self,
        *,
        memory: _Memory = "pageable",
        threads: int | None = None,
        lease: bool = False,
        pin: bool = False,
        pin_min_nbytes: int = 0,
    ) -> None: ...
    def stage(self, x: Any, memo: dict[int, Any] | None, nil: Any, non_blocking: bool) -> Any: ...
    def is_leased(self) -> bool: ...
    def close(self) -> None: ...
    @property
    def nbytes(self) -> int: ...

class PartWriter:
    def __init__(
        self,
        *,
        writer: _Writer = "auto",
        threads: int | None = None,
        max_write_rate: float | None = None,
    ) -> None: ...
    def write(
        self,
        path: _Path,
        mark: str,
        rank_and_count: tuple[int, int],
        file: int,
        is_only: bool,
        leaves: dict[str, Any],
        places: dict[str, tuple[tuple[int, ...], tuple[int, ...]]],
        paths: Any,
        allow_pickle: bool,
    ) -> bytes: ...

class StepInParts:
    def __init__(self, path: _Path, mark: str, overwrite: bool) -> None: ...
    def commit(self, reports: list[bytes], paths: Any, metadata: dict[str, Any] | None) -> None: ...
    def abandon(self) -> None: ...

class PartReader:
    def __init__(
        self,
        path: _Path,
        *,
        verify: bool = True,
        allow_pickle: bool = False,
        threads: int | None = None,
    ) -> None: ...
    def leaves(
        self,
    ) -> list[tuple[str, tuple[str | int, ...], str | None, tuple[int, ...] | None]]: ...
    def chunks(self, name: str) -> list[tuple[tuple[int, ...], tuple[int, ...]]]: ...
    def has(self, name: str) -> bool: ...
    def value(self, name: str) -> Any: ...
    def read(
        self, names: list[str], offsets: list[tuple[int, ...]], tensors: list[Tensor]
    ) -> None: ...
    def metadata(self) -> dict[str, Any] | None: ...
