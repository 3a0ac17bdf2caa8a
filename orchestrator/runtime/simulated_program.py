"""What a simulated container or exec does: the few commands that tests and examples need, acted out.

A command line is an argument vector, or `sh -c` with a script of commands joined by `;` or `&&`. Known are
`true`, `false`, `echo`, `exit N`, `sleep S` (or `infinity`) and `cat`; anything else is taken for a server
that runs until it is stopped. `>&2` after an echo sends it to stderr. Pure: the runtime acts the steps out.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Step:
    """One command. `and_then` says that it runs only after success; `value` belongs to its kind."""

    kind: Literal["print", "status", "exit", "sleep", "cat", "forever"]
    text: str = ""
    value: float = 0.0
    stream: Literal["stdout", "stderr"] = "stdout"
    and_then: bool = False


def program(argv: Sequence[str]) -> list[Step]:
    """The steps of a command line; no arguments at all means a server."""
    if not argv:
        return [Step("forever")]
    if len(argv) >= 3 and argv[0].rsplit("/", 1)[-1] in ("sh", "bash", "ash") and argv[1] == "-c":
        return _script(argv[2])
    return [_step(list(argv), and_then=False)]


def _script(text: str) -> list[Step]:
    lexer = shlex.shlex(text.replace("\n", ";"), posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split = True
    steps: list[Step] = []
    words: list[str] = []
    and_then = False
    for token in [*lexer, ";"]:
        if token not in (";", "&&"):
            words.append(token)
            continue
        if words:
            steps.append(_step(words, and_then))
        words, and_then = [], token == "&&"
    return steps


def _step(words: list[str], and_then: bool) -> Step:
    stream: Literal["stdout", "stderr"] = "stdout"
    if words[-2:] == [">&", "2"]:
        words, stream = words[:-2], "stderr"
    command, arguments = words[0].rsplit("/", 1)[-1], words[1:]
    if command == "exec" and arguments:
        return _step(arguments, and_then)
    match command:
        case "true" | ":":
            return Step("status", value=0, and_then=and_then)
        case "false":
            return Step("status", value=1, and_then=and_then)
        case "echo":
            return Step("print", " ".join(arguments) + "\n", stream=stream, and_then=and_then)
        case "exit":
            return Step("exit", value=float(arguments[0]) if arguments else 0.0, and_then=and_then)
        case "sleep" if arguments and arguments[0] != "infinity":
            return Step("sleep", value=float(arguments[0]), and_then=and_then)
        case "cat":
            return Step("cat", and_then=and_then)
    return Step("forever", and_then=and_then)
