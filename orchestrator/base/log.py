"""structlog for the whole process: JSON lines under systemd, readable columns on a terminal."""

import logging
import os
import sys
from typing import Any

import structlog


def configure(level: str = "info", style: str = "auto") -> None:
    """Set up logging once, to stderr.

    `level` is a name of the logging module; `style` is `json`, `console`, or `auto` (JSON unless stderr is
    a terminal).
    """
    as_json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    renderers: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(colors="NO_COLOR" not in os.environ)]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *renderers,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
