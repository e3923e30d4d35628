"""Logging: short lines on stderr for a person, timed lines in the run's log file."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = "tutelage"
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x80-\x9f]")


def visible(text: str) -> str:
    """The text with control characters as replacement marks: a file or a model may hold any, and a terminal obeys some."""
    return _CONTROLS.sub("\ufffd", text)


def get_logger(name: str = "") -> logging.Logger:
    """The project's logger, or one below it."""
    return logging.getLogger(f"{ROOT}.{name}" if name else ROOT)


def setup_logging(verbosity: int = 0, file: Path | None = None) -> None:
    """Send the project's log to stderr, and to a file when one is given. verbosity: -1 warnings only, 0 normal, 1 everything."""
    logger = logging.getLogger(ROOT)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.DEBUG)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)        # it warns of a kernel that it would have downloaded
    screen = _ScreenHandler()
    screen.setLevel({-1: logging.WARNING, 0: logging.INFO}.get(verbosity, logging.DEBUG))
    logger.addHandler(screen)
    if file is not None:
        logger.addHandler(_file_handler(file))


@contextmanager
def log_to(file: Path) -> Iterator[None]:
    """Also write the log to a file (made with its folder, appended to) while inside."""
    handler = _file_handler(file)
    logger = logging.getLogger(ROOT)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def only_warnings() -> Iterator[None]:
    """Nothing below a warning is logged while inside: for work whose steps are nobody's results, such as a forecast's."""
    logger = logging.getLogger(ROOT)
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and reports; what matters is said by us."""
    from transformers.utils import logging as hf_logging

    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()


class _ScreenHandler(logging.Handler):
    """Writes to whatever sys.stderr is now, above a progress bar when one is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        from .progress import print_above_bars

        try:
            text = prefix + visible(record.getMessage())
            if record.exc_info:
                text += "\n" + logging.Formatter().formatException(record.exc_info)
            if not print_above_bars(text):
                print(text, file=sys.stderr, flush=True)
        except Exception:  # noqa: BLE001 - logging must not stop a run
            self.handleError(record)


def _file_handler(file: Path) -> logging.Handler:
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler
