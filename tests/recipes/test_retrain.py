"""`tutelage feedback retrain`: from a store to a reward model, in a real process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.feedback import few
from tests.small import ANIMALS, Small
from tutelage.cli.main import main
from tutelage.feedback.store import Store


@pytest.mark.slow
def test_the_command_ends_with_a_reward_model_of_what_people_said_and_with_the_error_when_it_cannot(small: Small, tmp_path, capsys):
    with Store.open(tmp_path / "studio.db") as store:
        def judged(conn):
            amara = few.labeler(conn, "amara")
            for i in range(40):
                asked = few.prompt(conn, [{"role": "user", "content": f"where is {ANIMALS[i % 8]} {i}?"}])
                few.judgement(conn, few.task(conn, asked, ["in the barn with a cat", "no"]), amara, {"ranks": [0, 1]})
        store.write(judged)
    given = ["feedback", "retrain", "--db", str(tmp_path / "studio.db"), "--out", str(tmp_path / "data"), "--json"]
    with pytest.raises(SystemExit, match="^0$"):
        main([*given, "--policy", str(small.sft), "train.max_steps=2", "train.epochs=null"])
    result = json.loads(capsys.readouterr().out)
    assert result["state"] == "done" and result["steps"] == 2 and Path(result["model"]).is_dir()
    (lineage,) = json.loads((Path(result["run_dir"]) / "lineage.json").read_text())["parents"]["data"]
    assert lineage["snapshot"].startswith(Path(result["snapshot"]).name)
    (hollow := tmp_path / "hollow").mkdir()
    (hollow / "config.json").write_text("{}")                        # looks like a model, and is none
    for policy, said in ((tmp_path / "nowhere", "there is no model in"), (hollow, "training 2 failed")):
        with pytest.raises(SystemExit, match="^1$"):
            main([*given, "--policy", str(policy)])
        assert said in capsys.readouterr().err
