"""Progress and logging write to stderr only, in lines away from a terminal."""

from __future__ import annotations

import logging
import os
import pty
import subprocess
import sys

from tutelage.base.log import get_logger, log_to, setup_logging
from tutelage.base.progress import Progress, progress, track


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_one_line_per_interval_with_the_time_left(capsys):
    setup_logging()
    clock = Clock()
    with Progress(100, "ppo", "iterations", interval_seconds=10, clock=clock) as bar:
        for i in range(100):
            clock.seconds += 1
            bar.update(note=f"score {i}")
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "ppo 10/100 iterations, 10 s, about 90 s left, score 9"  # 10 s for a tenth leaves 90 s
    assert lines[-1] == "ppo 100/100 iterations, 100 s, score 99"
    assert len(lines) == 10


def test_work_done_before_does_not_count_for_the_pace():
    clock = Clock()
    with Progress(100, "ppo", "iterations", start=80, clock=clock) as bar:
        clock.seconds = 30
        bar.update(10)
        assert bar.eta_seconds() == 30  # 10 took 30 s, 10 are left
    assert list(progress(5, "a", start=3)) == [3, 4]


def test_iterating_yields_the_range_and_the_items(capsys):
    setup_logging(-1)
    assert list(progress(3, "a")) == [0, 1, 2]
    assert list(track("xyz", "b")) == ["x", "y", "z"]
    assert capsys.readouterr() == ("", "")  # quiet


def test_verbosity_and_the_log_file(tmp_path, capsys):
    setup_logging(0)
    with log_to(tmp_path / "run" / "log.txt"):
        get_logger("ppo").debug("detail")
        get_logger().info("plain")
        get_logger().warning("odd")
    get_logger().info("later")
    assert capsys.readouterr().err == "plain\nwarning: odd\nlater\n"
    lines = (tmp_path / "run" / "log.txt").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["DEBUG tutelage.ppo: detail", "INFO tutelage: plain", "WARNING tutelage: odd"]
    setup_logging(1)
    get_logger().debug("detail")
    assert capsys.readouterr().err == "detail\n"
    assert len(logging.getLogger("tutelage").handlers) == 1


NESTED = """
from tutelage.base.log import get_logger, setup_logging
from tutelage.base.progress import progress
setup_logging()
with progress(2, "outer", "stages") as outer:
    for _ in progress(3, "inner", "steps"):
        get_logger().info("a [line] between")
    outer.update(2)
print("result")
"""


def test_bars_nest_on_a_terminal_and_stdout_stays_clean():
    leader, follower = pty.openpty()
    done = subprocess.Popen([sys.executable, "-c", NESTED], stdout=subprocess.PIPE, stderr=follower, env=os.environ | {"TERM": "xterm"})
    out, _ = done.communicate(timeout=60)
    os.close(follower)
    drawn = b""
    try:
        while chunk := os.read(leader, 4096):
            drawn += chunk
    except OSError:  # the terminal's end is closed
        pass
    assert out == b"result\n" and done.returncode == 0
    assert drawn.count(b"a [line] between") == 3
    assert b"outer" in drawn and b"inner" in drawn and b"\xe2\x94\x81" in drawn  # a heavy line: the bar
