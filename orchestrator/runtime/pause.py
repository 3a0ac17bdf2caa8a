"""The sandbox ("pause") image, made here rather than pulled: a static ELF of a few hundred bytes.

The program holds a pod's namespaces open. It blocks SIGINT, SIGTERM and SIGCHLD and takes them one by one:
the first two end it with code 0, the third makes it reap every child that has ended, so that in a shared
process namespace nobody stays a zombie. Because the signals are blocked and waited for, no handler is needed,
and the kernel keeps them for process 1, whose unhandled signals it would otherwise drop.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from orchestrator.base.errors import StartupError
from orchestrator.runtime.imagetar import Entry, build, host_architecture

TAG: Final = "orchestrator.internal/pause:1"

SIGNALS: Final = 1 << (2 - 1) | 1 << (15 - 1) | 1 << (17 - 1)
"""SIGINT, SIGTERM and SIGCHLD as the kernel's signal set."""


def image(architecture: str | None = None) -> bytes:
    """The image archive for `architecture` (`amd64` or `arm64`; None means this host's)."""
    name = architecture or host_architecture()
    files = {"/pause": Entry(program(name))}
    return build(TAG, files, {"Entrypoint": ["/pause"], "StopSignal": "SIGTERM"}, name)


def program(architecture: str) -> bytes:
    """The executable. Raises `StartupError` for an architecture that we have no code for."""
    machine = MACHINES.get(architecture)
    if machine is None:
        raise StartupError(
            f"There is no pause program for the architecture {architecture}.",
            f"Run on one of {', '.join(sorted(MACHINES))}.",
        )
    return _elf(machine.elf_number, machine.page_bytes, machine.code())


def _elf(machine: int, page_bytes: int, code: bytes) -> bytes:
    """One loadable segment that holds the headers and the code; the stack is not executable."""
    base, header_bytes, program_header_bytes = 0x400000, 64, 56
    start = header_bytes + 2 * program_header_bytes
    size = start + len(code)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack(
        "<HHIQQQIHHHHHH",
        *(2, machine, 1, base + start, header_bytes, 0, 0),
        *(header_bytes, program_header_bytes, 2, 0, 0, 0),
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, page_bytes)
    stack = struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)
    return identity + header + load + stack + code


def _amd64() -> bytes:
    setup = bytes.fromhex(
        f"68 {SIGNALS.to_bytes(4, 'little').hex()}"  # push SIGNALS
        "4889e3"  # mov rbx, rsp          rbx = address of the set
        "31ff 4889de 31d2 6a08 415a"  # rdi = SIG_BLOCK, rsi = set, rdx = 0, r10 = 8
        "6a0e 58 0f05"  # rt_sigprocmask
    )
    wait = bytes.fromhex(
        "4889df 31f6 31d2 6a08 415a"  # rdi = set, rsi = rdx = 0, r10 = 8
        "b880000000 0f05"  # rt_sigtimedwait       eax = the signal
    )
    reap = bytes.fromhex(
        "83cfff 31f6 6a01 5a 4531d2"  # rdi = -1, rsi = 0, rdx = WNOHANG, r10 = 0
        "6a3d 58 0f05"  # wait4
        "85c0"  # test eax, eax
    )
    leave = bytes.fromhex("31ff b8e7000000 0f05")  # exit_group(0)
    compare = 5  # bytes of one "cmp eax, N" with its short jump
    after_wait = 3 * compare
    tail = len(reap) + 2 + 2
    return b"".join(
        (
            setup,
            wait,
            b"\x83\xf8\x02\x74" + _short(after_wait - compare + tail),  # SIGINT: leave
            b"\x83\xf8\x0f\x74" + _short(after_wait - 2 * compare + tail),  # SIGTERM: leave
            b"\x83\xf8\x11\x75" + _short(-(after_wait + len(wait))),  # not SIGCHLD: wait again
            reap,
            b"\x7f" + _short(-(len(reap) + 2)),  # one was reaped: look for another
            b"\xeb" + _short(-(tail + after_wait + len(wait))),  # none left: wait again
            leave,
        )
    )


def _short(offset: int) -> bytes:
    return struct.pack("b", offset)


def _arm64() -> bytes:
    """The same program; every instruction is one little-endian word, jumps count words."""
    x0, x1, x2, x3, x8, x9, x19 = 0, 1, 2, 3, 8, 9, 19
    setup = [
        _movz(x9, SIGNALS & 0xFFFF),
        0xF2A00000 | (SIGNALS >> 16) << 5 | x9,  # movk x9, SIGNALS >> 16, lsl 16
        0xF81F0FE9,  # str x9, [sp, -16]!
        0x910003E0 | x19,  # mov x19, sp
        *(_movz(x0, 0), _move(x1, x19), _movz(x2, 0), _movz(x3, 8)),
        *(_movz(x8, 135), SVC),  # rt_sigprocmask
    ]
    wait = [
        *(_move(x0, x19), _movz(x1, 0), _movz(x2, 0), _movz(x3, 8)),
        *(_movz(x8, 137), SVC),  # rt_sigtimedwait
    ]
    reap = [
        0x92800000 | x0,  # mov x0, -1
        *(_movz(x1, 0), _movz(x2, 1), _movz(x3, 0)),
        *(_movz(x8, 260), SVC),  # wait4
        _compare(x0, 0),
    ]
    leave = [_movz(x0, 0), _movz(x8, 94), SVC]  # exit_group(0)
    tail = len(reap) + 2
    equal, unequal, greater = 0, 1, 12
    words = [
        *setup,
        *wait,
        *(_compare(x0, 2), _branch_if(equal, 5 + tail)),
        *(_compare(x0, 15), _branch_if(equal, 3 + tail)),
        *(_compare(x0, 17), _branch_if(unequal, -(5 + len(wait)))),
        *reap,
        _branch_if(greater, -len(reap)),
        0x14000000 | (-(tail - 1 + 6 + len(wait)) & 0x3FFFFFF),  # b wait
        *leave,
    ]
    return b"".join(struct.pack("<I", word) for word in words)


SVC: Final = 0xD4000001


def _movz(register: int, value: int) -> int:
    return 0xD2800000 | value << 5 | register


def _move(to: int, source: int) -> int:
    return 0xAA0003E0 | source << 16 | to


def _compare(register: int, value: int) -> int:
    return 0x7100001F | value << 10 | register << 5


def _branch_if(condition: int, words: int) -> int:
    return 0x54000000 | (words & 0x7FFFF) << 5 | condition


@dataclass(frozen=True, slots=True)
class _Machine:
    elf_number: int
    page_bytes: int
    name: str

    def code(self) -> bytes:
        return _amd64() if self.name == "amd64" else _arm64()


MACHINES: Final[Mapping[str, _Machine]] = {
    "amd64": _Machine(62, 0x1000, "amd64"),
    "arm64": _Machine(183, 0x10000, "arm64"),
}
