"""doctor tells what is wrong and how to mend it."""

from __future__ import annotations

import json
from collections import namedtuple

import pytest

from tutelage.cli import doctor
from tutelage.cli.main import main


def test_doctor_examines_this_machine(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    names = [check["name"] for check in report["checks"]]
    assert names == ["python", "torch", "transformers", "threads", "memory", "disk", "write", "gpu", "extras", "matmul"]
    assert report["ok"] is (ended.value.code == 0) is all(check["status"] != "fail" for check in report["checks"])
    assert all((check["status"] == "ok") == (check["remedy"] is None) for check in report["checks"])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_and_little_memory_are_warned_of(monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage(10, 9, 5e8))
    monkeypatch.setattr(doctor, "memory_bytes", lambda: int(2e9))
    assert (doctor.disk().status, doctor.memory().status) == ("warn", "warn")


def test_a_missing_and_an_old_package_fail_with_the_command_that_mends_it():
    missing = doctor._package("no_such_package", (1, 0))
    assert (missing.status, missing.remedy) == ("fail", "pip install 'no_such_package>=1.0'")
    assert doctor._package("numpy", (99, 0)).status == "fail"


def test_a_check_that_breaks_fails_by_name(capsys, monkeypatch):
    def broken() -> doctor.Check:
        raise RuntimeError("odd")

    monkeypatch.setattr(doctor, "CHECKS", (broken,))
    with pytest.raises(SystemExit) as ended:
        main(["doctor"])
    assert ended.value.code == 1 and capsys.readouterr().out.startswith("fail broken        RuntimeError: odd\n")
