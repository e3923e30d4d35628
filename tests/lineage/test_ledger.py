import hashlib
import json

from tutelage.base.config import RunConfig
from tutelage.lineage.ledger import ancestors, code_revision, describe_input, describe_run
from tutelage.train.run import Run


def test_the_digest_of_a_file_is_its_sha256_and_changes_with_it(tmp_path):
    file = tmp_path / "data.jsonl"
    file.write_bytes(b"one\n")
    assert describe_input(file) == {"path": str(file), "sha256": hashlib.sha256(b"one\n").hexdigest()}
    file.write_bytes(b"two\n")
    assert describe_input(file)["sha256"] == hashlib.sha256(b"two\n").hexdigest()


def test_the_digest_of_a_folder_changes_with_content_and_name_but_not_with_its_place(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place / "sub").mkdir(parents=True)
        (tmp_path / place / "sub/w").write_text("1")
    before = describe_input(tmp_path / "a")["sha256"]
    assert before == describe_input(tmp_path / "b")["sha256"]
    (tmp_path / "a/sub/w").write_text("2")
    assert describe_input(tmp_path / "a")["sha256"] != before
    (tmp_path / "b/sub/w").rename(tmp_path / "b/sub/v")
    assert describe_input(tmp_path / "b")["sha256"] not in (before, describe_input(tmp_path / "a")["sha256"])


def test_a_name_that_is_no_path_is_kept_as_it_stands_and_lists_are_described_one_by_one(tmp_path):
    assert describe_input("org/model") == {"name": "org/model"}
    (tmp_path / "x").write_text("x")
    assert [e["path"] for e in describe_input([tmp_path / "x", tmp_path / "x"])] == [str(tmp_path / "x")] * 2


def make_run(folder, verb: str, **inputs) -> None:
    Run.open(RunConfig(run_dir=folder), verb, inputs=inputs).__exit__()


def test_ancestors_walk_from_a_run_to_the_data_nearest_first_and_each_once(tmp_path):
    (tmp_path / "corpus.txt").write_text("text")
    make_run(tmp_path / "base", "pretrain", data=[tmp_path / "corpus.txt"])
    (tmp_path / "base/model").mkdir()
    make_run(tmp_path / "sft", "sft", policy=tmp_path / "base/model")
    (tmp_path / "sft/answers.jsonl").write_text("{}")
    make_run(tmp_path / "reward", "reward", policy=tmp_path / "sft", data=[tmp_path / "sft/answers.jsonl"])
    make_run(tmp_path / "ppo", "ppo", policy=tmp_path / "sft", reward=tmp_path / "reward")
    chain = ancestors(tmp_path / "ppo")
    assert [a["verb"] for a in chain] == ["ppo", "sft", "reward", "pretrain"]
    assert chain[-1]["parents"]["data"][0]["sha256"] == hashlib.sha256(b"text").hexdigest()


def test_a_branch_whose_lineage_is_gone_ends_there(tmp_path):
    make_run(tmp_path / "base", "pretrain")
    make_run(tmp_path / "sft", "sft", policy=tmp_path / "base")
    (tmp_path / "base/lineage.json").unlink()
    assert [a["verb"] for a in ancestors(tmp_path / "sft")] == ["sft"]
    assert ancestors(tmp_path / "nowhere") == []


def test_a_run_names_its_code_config_and_versions(tmp_path):
    record = describe_run("sft", "seed: 3\n", {}, seed=3)
    assert record["config_sha256"] == hashlib.sha256(b"seed: 3\n").hexdigest() and record["seed"] == 3
    assert record["versions"]["torch"] and record["versions"]["python"] and record == json.loads(json.dumps(record))
    revision = code_revision()
    assert revision is None or (len(revision["commit"]) == 40 and isinstance(revision["changed"], bool))
