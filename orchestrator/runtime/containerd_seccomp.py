"""The default seccomp profile, from our table of system calls, for one set of capabilities. Pure but for one read.

A call that is not named fails with EPERM. `clone` may not make namespaces and `clone3`, whose flags can't be seen,
answers ENOSYS so that libraries fall back to `clone`; sockets are all but those into the host's hypervisor.
Called by `containerd_specs`.
"""

from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("containerd_seccomp.txt")
EPERM, ENOSYS = 1, 38
NAMESPACE_FLAGS = 0x7E020000
AF_VSOCK = 40
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
ARCHITECTURES = {
    "amd64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "arm64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
}

Profile = dict[str, Any]


def default_profile(capabilities: Collection[str], architecture: str) -> Profile:
    """As in an OCI spec. `capabilities` without the prefix `CAP_`."""
    calls = list(_table()["allow", ""])
    calls += _table().get(("arch", architecture), ())
    for capability in capabilities:
        calls += _table().get(("cap", capability), ())
    rules: list[Profile] = [
        {"names": sorted(set(calls)), "action": "SCMP_ACT_ALLOW"},
        _rule("socket", 0, AF_VSOCK, "SCMP_CMP_NE"),
        *(_rule("personality", 0, value, "SCMP_CMP_EQ") for value in PERSONALITIES),
    ]
    if "SYS_ADMIN" not in capabilities:
        rules.append(_rule("clone", 0, NAMESPACE_FLAGS, "SCMP_CMP_MASKED_EQ"))
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": EPERM,
        "architectures": list(ARCHITECTURES.get(architecture, ())),
        "syscalls": rules,
    }


def _rule(name: str, index: int, value: int, operator: str) -> Profile:
    argument = {"index": index, "value": value, "op": operator}
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]}


@cache
def _table() -> dict[tuple[str, str], tuple[str, ...]]:
    """Calls by (`allow`, ``), (`arch`, name) and (`cap`, name); an indented line goes on with the one above."""
    text = TABLE.read_text("utf-8").replace("\n ", " ")
    table = {}
    for line in text.splitlines():
        kind, *words = line.split()
        which = "" if kind == "allow" else words.pop(0)
        table[kind, which] = tuple(words)
    return table
