"""Variables that an earlier container left in a file: `fileKeyRef`. Pure.

A line is `NAME=value`, or `NAME='value'` where the value may go over several lines; blank lines and those that begin
with `#` say nothing. Called by `env`.
"""

import re

TEXT_BYTES_MAX = 64 << 10
_ENTRY = re.compile(r"[ \t]*([^\s=#][^=\n]*?)=(?:'([^']*)'[ \t]*|\"([^\"\n]*)\"[ \t]*|([^\n]*))(?:\n|\Z)")
_SILENT = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")


def parse(text: str) -> dict[str, str]:
    """Name to value; the last of a name wins. Raises `ValueError` naming a line that is neither."""
    values, place, text = {}, 0, text.replace("\r\n", "\n")
    while place < len(text):
        if match := _SILENT.match(text, place):
            place = match.end()
            continue
        match = _ENTRY.match(text, place)
        if match is None:
            raise ValueError(f"line {text.count(chr(10), 0, place) + 1} is not of the form NAME='value'")
        name, *found = match.groups()
        values[name] = next(value for value in found if value is not None)
        place = match.end()
    return values
