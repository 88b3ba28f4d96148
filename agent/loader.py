# SPDX-License-Identifier: Apache-2.0
"""Compile and load the BPF programs. The only module that imports bcc.

BCC rewrites map accesses in the main file alone, so the sources are joined into
one text. It compiles against the header stubs in bpf/stubs, not against kernel
headers. Every program is loaded by itself, when it is needed: one that the kernel
refuses costs no other, and the end of the verifier's log says why.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .bytecode import Cache, digest
from .hooks import HOOKS, PROBE, Hook

BPF_DIR = Path(__file__).parent.parent / "bpf"
SOURCES = ("connect.c", "listen.c", "listeners.c", "accept.c", "mac.c", "probe.c")
_LOG_SIZE = 1 << 20
_LOG_TAIL = 6


class LoadError(Exception):
    """The programs cannot be compiled at all: BCC is missing or clang refuses the text."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """Sizes that are compiled into the maps and the walk. Per generation where abi.h says so."""

    steps: int
    entries: int
    slots: int
    bounds: int
    rules: int
    known: int = 8192
    listeners: int = 65536

    def macros(self) -> dict[str, int]:
        return {
            "SR_STEPS": self.steps,
            "SR_ENTRIES": self.entries,
            "SR_SLOTS": self.slots,
            "SR_BOUNDS": self.bounds,
            "SR_RULES": self.rules,
            "SR_KNOWN": self.known,
            "SR_LISTENERS": self.listeners,
        }


@dataclass(slots=True)
class Loaded:
    """Programs and maps by name, as descriptors that live as long as this object."""

    programs: dict[str, int]
    refused: dict[str, str]
    maps: dict[str, int]
    sizes: dict[str, tuple[int, int]]
    """Key and value size of each map as clang laid them out."""
    bpf: Any = field(repr=False)
    _code: dict[str, bytes] = field(repr=False)
    _reading: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _loading: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _closed: bool = False

    def need(self, hooks: Iterable[Hook]) -> None:
        """Load what is not loaded yet; what the kernel refuses is in `refused` afterwards."""
        with self._loading:
            wanted = [
                hook
                for hook in dict.fromkeys(hooks)
                if hook.name not in self.programs and hook.name not in self.refused
            ]
            if wanted:
                self._load(wanted)

    def _load(self, hooks: list[Hook]) -> None:
        with _captured_stderr(), ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
            results = pool.map(
                lambda hook: _load_one(self.bpf, hook, self._code[hook.function]), hooks
            )
            for hook, result in zip(hooks, results, strict=True):
                if isinstance(result, int):
                    self.programs[hook.name] = result
                else:
                    self.refused[hook.name] = result

    def open_events(
        self, take: Callable[[int, bytes], None], lost: Callable[[int], None], pages: int
    ) -> None:
        """Open the perf buffers, `pages` pages a CPU; `take(cpu, bytes)` gets a copy of each event.

        No wake-ups: the caller comes by on a timer (`consume`).
        """

        def copy(cpu: int, data: int, size: int) -> None:
            take(cpu, ctypes.string_at(data, size))

        self.bpf[b"events"].open_perf_buffer(
            copy, page_cnt=pages, lost_cb=lost, wakeup_events=1 << 30
        )

    def consume(self) -> None:
        """Hand over all events that wait in the buffers. From any thread."""
        with self._reading:
            if not self._closed:
                self.bpf.perf_buffer_consume()

    def close(self) -> None:
        with self._reading:
            self._closed = True
            self.bpf.cleanup()


def source_text(sources: tuple[str, ...] = SOURCES) -> str:
    """The BPF sources as one text, each file once, in the order of their includes."""
    seen: set[str] = set()

    def expand(name: str) -> str:
        if name in seen:
            return ""
        seen.add(name)
        text = (BPF_DIR / name).read_text()
        return re.sub(r'^#include "(.+)"$', lambda m: expand(m.group(1)), text, flags=re.MULTILINE)

    return "".join(expand(name) for name in sources)


@contextmanager
def _captured_stderr() -> Iterator[Callable[[], str]]:
    """What C libraries print to stderr meanwhile, which BCC does where others raise."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)

        def text() -> str:
            file.seek(0)
            return file.read().decode(errors="replace")

        try:
            yield text
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def load(
    capacity: Capacity,
    macros: Mapping[str, int | str],
    hooks: Iterable[Hook] = (),
    cache: Cache | None = None,
) -> Loaded:
    """Compile the text, or take what is kept of it, and load the programs of `hooks`.

    Other hooks' programs are loaded when they are needed (`Loaded.need`).

    Args:
        macros: what else the text needs: SR_OFF_*, and where SR_*_PIN are.
        cache: where compiled programs are kept.

    Raises:
        LoadError: bcc cannot be imported or clang refuses the text.
    """
    os.environ["BCC_KERNEL_SOURCE"] = str(BPF_DIR / "stubs")
    try:
        import bcc
    except ImportError as error:
        raise LoadError(
            f"bcc cannot be imported ({error}); install python3-bpfcc and use a virtual"
            " environment of /usr/bin/python3 with system site packages"
        ) from error

    macros = {**capacity.macros(), **macros}
    text = source_text()
    fixed = [f"{name}={value}" for name, value in macros.items() if not name.endswith("_PIN")]
    key = digest(text, sorted(fixed), str(bcc.__version__))
    with _captured_stderr() as printed:
        module, programs = _kept(key, macros, cache)
        if programs is None:
            module = _compile(text, macros, printed)
            functions = {hook.function for hook in (*HOOKS, PROBE)}
            programs = {name: _bytecode(module, name) for name in sorted(functions)}
            if cache:
                cache.put(key, _descriptors(module), programs)

    loaded = Loaded({}, {}, _descriptors(module), {}, module, programs)
    loaded.need(hooks)
    loaded.sizes.update((name, _sizes(module, name)) for name in MAPS)
    return loaded


MAPS = (
    *("control", "headers", "entries", "slots", "bounds", "known", "totals", "hits", "proofs"),
    *("listeners", "owners", "no_listener", "binds", "passed", "governed"),
    *("paths", "no_path", "events"),
)


def pinned_in(directory: Path) -> dict[str, int | str]:
    """Macros that say where the maps lie which one agent leaves to the next."""
    return {
        f"SR_{name.upper()}_PIN": f'"{directory}/{name}"'
        for name in ("listeners", "owners", "totals")
    }


def _kept(
    key: str, macros: Mapping[str, int | str], cache: Cache | None
) -> tuple[Any, dict[str, bytes] | None]:
    """A module of the maps alone and the kept programs, or nothing."""
    if cache is None or not (cache.directory / key).exists():
        return None, None
    module = _compile(source_text(("maps.h",)), macros, lambda: "")
    return module, cache.get(key, _descriptors(module))


def _compile(text: str, macros: Mapping[str, int | str], printed: Callable[[], str]) -> Any:
    from bcc import BPF

    flags = [f"-D{name}={value}" for name, value in macros.items()]
    try:
        return BPF(text=text.encode(), cflags=[*flags, "-Wno-unused-value"])
    except Exception as error:
        raise LoadError(f"the BPF programs do not compile: {error}\n{printed()}") from error


def _bytecode(module: Any, function: str) -> bytes:
    """The instructions that clang made of a function."""
    from bcc.libbcc import lib

    name = function.encode()
    start = lib.bpf_function_start(module.module, name)
    return ctypes.string_at(start, lib.bpf_function_size(module.module, name))


def _load_one(module: Any, hook: Hook, code: bytes) -> int | str:
    """Load one program: its descriptor, or why the kernel refused it."""
    fd, _ = _try_to_load(module, hook, code)
    if fd >= 0:
        return fd
    said = os.strerror(-fd)
    if -fd in (errno.EPERM, errno.E2BIG):  # the verifier had no look, or has no more to say
        return said
    again, log = _try_to_load(module, hook, code, _LOG_SIZE)
    if again >= 0:
        return again
    if -again == errno.ENOSPC:  # a log that found no room, before Linux 6.4
        return said
    return "\n".join([said, *log.strip().splitlines()[-_LOG_TAIL:]])


def _try_to_load(module: Any, hook: Hook, code: bytes, log_size: int = 0) -> tuple[int, str]:
    """The descriptor or the negative errno, and the verifier's log if there is room for it."""
    from bcc.libbcc import lib

    log = ctypes.create_string_buffer(log_size) if log_size else None
    fd: int = lib.bcc_func_load(
        module.module,
        hook.program_type,
        (hook.symbol or hook.function).encode(),
        ctypes.cast(ctypes.c_char_p(code), ctypes.c_void_p),
        len(code),
        lib.bpf_module_license(module.module),
        lib.bpf_module_kern_version(module.module),
        1 if log else 0,
        log,
        log_size,
        None,
        hook.attach_type,
    )
    if fd < 0:
        fd = -(ctypes.get_errno() or -fd)
    return fd, log.value.decode(errors="replace") if log else ""


def _descriptors(module: Any) -> dict[str, int]:
    return {name: module[name.encode()].map_fd for name in MAPS}


def _sizes(module: Any, name: str) -> tuple[int, int]:
    """Key and value size; the binding declares no argument types for these two."""
    from bcc.libbcc import lib

    handle, label = ctypes.c_void_p(module.module), ctypes.c_char_p(name.encode())
    return lib.bpf_table_key_size(handle, label), lib.bpf_table_leaf_size(handle, label)


def bcc_version() -> str:
    """BCC's version, or why it cannot be used."""
    try:
        from bcc import __version__
    except ImportError as error:
        return f"not usable: {error}"
    return str(__version__)
