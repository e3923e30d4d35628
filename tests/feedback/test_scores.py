"""Scores of reward models order what is open: by hand-made numbers, on both databases."""

from __future__ import annotations

import json
import math

import pytest
from sqlalchemy import select

from tutelage.cli.main import main
from tutelage.feedback import queue
from tutelage.feedback.content import add_labeler, add_prompt, add_response, add_task
from tutelage.feedback.errors import ContentError
from tutelage.feedback.schema import audit, scores, tasks
from tutelage.feedback.scores import Score, add_scores, doubt
from tutelage.feedback.shares import set_shares
from tutelage.feedback.store import Store


def pairs(store, count: int, *, kind: str = "comparison", answers: int = 2) -> list[tuple[int, list[int]]]:
    """Open tasks: (id, its answers)."""
    def work(conn):
        made = []
        for n in range(count):
            prompt = add_prompt(conn, content=f"Prompt {n} of {kind}", source="import", now=store.now())
            ids = [add_response(conn, prompt_id=prompt, text=f"answer {at}", now=store.now()) for at in range(answers)]
            made.append((add_task(conn, kind=kind, prompt_id=prompt, response_ids=ids, now=store.now()), ids))
        return made

    return store.write(work)


def priorities(store) -> dict[int, float]:
    with store.read() as conn:
        return dict(conn.execute(select(tasks.c.id, tasks.c.priority)).all())


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_one_model_asks_first_where_it_is_least_decided():
    said = {i: Score(i, value) for i, value in enumerate((logit(0.5), logit(0.9), logit(0.6), 0.0))}
    assert doubt([0, 3], [said]) == pytest.approx(0.5) and doubt([1, 3], [said]) == pytest.approx(0.1)
    assert doubt([2, 3], [said]) == pytest.approx(0.4) == doubt([3, 2], [said])
    assert doubt([1, 2, 3], [said]) == pytest.approx((0.1 + 0.4 + (0.5 - abs(0.9 / 0.1 / (0.9 / 0.1 + 0.6 / 0.4) - 0.5))) / 3)


def test_several_models_ask_first_where_they_disagree():
    first, second = ({0: Score(0, logit(p)), 1: Score(1, 0.0)} for p in (0.2, 0.8))
    assert doubt([0, 1], [first, second]) == pytest.approx(0.3), "the standard deviation of 0.2 and 0.8"
    assert doubt([0, 1], [first, first]) == 0.0


def test_an_ensembles_own_spread_is_carried_over_to_the_probability():
    said = {0: Score(0, logit(0.8), 0.3), 1: Score(1, 0.0, 0.4)}
    assert doubt([0, 1], [said]) == pytest.approx(0.8 * 0.2 * 0.5), "sqrt(0.3^2 + 0.4^2) = 0.5, times dP/d(difference)"


def test_what_was_not_scored_whole_is_not_ordered():
    said = {0: Score(0, 1.0)}
    assert doubt([0, 1], [said]) is None and doubt([], [said]) is None and doubt([0], [said]) is None
    assert doubt([0], [said, {0: Score(0, 3.0)}]) == pytest.approx(1.0) and doubt([0], [{0: Score(0, 1.0, 0.7)}]) == pytest.approx(0.7)


@pytest.mark.parametrize("score", [1e308, -1e308])
def test_enormous_scores_are_certain_and_not_an_error(score):
    assert doubt([0, 1], [{0: Score(0, score), 1: Score(1, -score)}]) == 0.0


def test_the_queue_gives_the_most_doubtful_first_and_a_share_by_lot(store):
    made = pairs(store, 6)
    chances = (0.99, 0.7, 0.5, 0.9, 0.6, 0.8)
    given = [Score(one, value) for (_, ids), p in zip(made, chances, strict=True) for one, value in zip(ids, (logit(p), 0.0), strict=True)]
    assert store.write(lambda conn: add_scores(conn, "rm", given, now=store.now())) == 6
    person = store.write(lambda conn: add_labeler(conn, name="ann", now=store.now(), screening={"state": "passed"}))
    store.write(lambda conn: set_shares(conn, uniform=0.0, shared=0.0, gold=0.0, drift=0.0))
    order = []
    for _ in range(3):
        claim = store.write(lambda conn: queue.claim(conn, person, now=store.now()))
        order.append([task for task, _ in made].index(claim.task_id))
        store.write(lambda conn, held=claim: queue.submit(conn, assignment_id=held.assignment_id, labeler_id=person, value={"choice": 1},
                                                          now=store.now()))
    assert order == [2, 4, 1]
    store.write(lambda conn: set_shares(conn, uniform=0.3))
    claim = store.write(lambda conn: queue.claim(conn, person, now=store.now()))
    with store.read() as conn:
        p_select = conn.exec_driver_sql(f"SELECT p_select FROM assignments WHERE id = {claim.assignment_id}").scalar()
    best = [task for task, _ in made].index(claim.task_id) == 5
    assert p_select == pytest.approx(0.1 + 0.7 * best), "three are open, three tenths by lot"


def test_scoring_again_replaces_and_a_second_model_stands_beside(store):
    ((task, (a, b)),) = pairs(store, 1)
    for model, score in (("rm", 5.0), ("rm", logit(0.8)), ("other", logit(0.2))):
        store.write(lambda conn, m=model, s=score: add_scores(conn, m, [Score(a, s), Score(b, 0.0)], now=store.now()))
    assert priorities(store)[task] == pytest.approx(0.3)
    with store.read() as conn:
        assert len(conn.execute(select(scores)).all()) == 4


def test_finished_tasks_keep_their_place_and_rankings_count_all_pairs(store):
    ((ranking, ids),) = pairs(store, 1, kind="ranking", answers=4)
    store.write(lambda conn: conn.exec_driver_sql(f"UPDATE tasks SET state = 'done' WHERE id = {ranking}"))
    given = [Score(one, 0.0) for one in ids]
    assert store.write(lambda conn: add_scores(conn, "rm", given, now=store.now())) == 0 and priorities(store)[ranking] == 0.0


@pytest.mark.parametrize(("model", "score", "said"), [
    ("rm", Score(999, 1.0), "no response 999"), ("rm", Score(1, math.nan), "score is nan"), ("rm", Score(1, 1.0, -1.0), "spread is -1.0"),
    ("", Score(1, 1.0), "no name"), ("x" * 201, Score(1, 1.0), "too long")])
def test_what_cannot_be_is_refused_whole(store, model, score, said):
    ((_, ids),) = pairs(store, 1)
    given = [Score(ids[0], 1.0), score]
    with pytest.raises(ContentError, match=said):
        store.write(lambda conn: add_scores(conn, model, given, now=store.now()))
    with store.read() as conn:
        assert conn.execute(select(scores)).all() == []


def command(*arguments: str) -> int:
    """The exit code of `tutelage ...`."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return ended.value.code


def test_scores_come_from_a_file_by_id_or_by_words(tmp_path, capsys):
    database, file = tmp_path / "studio.db", tmp_path / "scores.jsonl"
    with Store.open(database) as store:
        (one, (a, b)), (two, _) = pairs(store, 2)
        rows = [{"response_id": a, "score": logit(0.9)}, {"response_id": b, "score": 0}]
        rows += [{"prompt": "Prompt 1 of comparison", "text": f"answer {at}", "score": 1.0} for at in (0, 1)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert command("feedback", "scores", str(file), "--db", str(database), "--model", "rm", "--json") == 0
        assert json.loads(capsys.readouterr().out) == {"scores": 4, "tasks": 2}
        assert priorities(store) == {one: pytest.approx(0.1), two: pytest.approx(0.5)}
        with store.read() as conn:
            assert conn.execute(select(audit.c.action, audit.c.subject)).all() == [("feedback.scores", "rm")], "the quality page sees it"


@pytest.mark.parametrize(("row", "said"), [
    ('{"response_id": 1}', ":2: a row holds score"), ('{"score": 1}', ":2: a row holds score"), ("[1]", ":2: "), ("{", ":2: "),
    ('{"response_id": 1, "score": "high"}', ":2: score is no number"), ('{"response_id": 99, "score": 1}', "no response 99"),
    ('{"prompt": "Who?", "text": "x", "score": 1}', ":2: the store has no such"), ('{"prompt": 5, "text": "x", "score": 1}', ":2: "),
    ('{"response_id": 99999999999999999999, "score": 1}', ":2: a row holds")])
def test_a_file_that_is_wrong_adds_nothing_and_says_where(tmp_path, capsys, row, said):
    database, file = tmp_path / "studio.db", tmp_path / "scores.jsonl"
    with Store.open(database) as store:
        pairs(store, 1)
        file.write_text('{"response_id": 1, "score": 0.5}\n' + row + "\n")
        assert command("feedback", "scores", str(file), "--db", str(database), "--model", "rm") == 1
        assert said in capsys.readouterr().err
        with store.read() as conn:
            assert conn.execute(select(scores)).all() == []


@pytest.mark.parametrize("wrong", [{"score": 1.1e6}, {"score": -1.1e6}, {"score": 10**400}, {"score": math.nan}, {"spread": 1.7e308},
                                   {"spread": 10**400}, {"spread": -1.0}, {"spread": math.inf}])
def test_a_number_beyond_the_limit_is_refused_with_its_response(store, wrong):
    [(_, (first, second))] = pairs(store, 1)
    given = [Score(first, 0.0, 1.0), Score(second, **{"score": 0.0, "spread": 1.0, **wrong})]
    with pytest.raises(ContentError, match=rf"response {second}: {next(iter(wrong))} is"):
        store.write(lambda conn: add_scores(conn, "rm", given, now=store.now()))
    with store.read() as conn:
        assert not conn.execute(select(scores.c.id)).all()


def test_a_priority_is_finite_at_the_limits_and_beside_scores_from_before_there_were_any(store):
    (far, (a, b)), (old, (c, d)) = pairs(store, 2)
    store.write(lambda conn: add_scores(conn, "rm", [Score(a, 1e6, 1e6), Score(b, -1e6, 1e6)], now=store.now()))
    assert priorities(store)[far] == 0.0, "P (1 - P) is 0 there"
    store.write(lambda conn: conn.execute(scores.insert().values(response_id=c, model="rm", score=0.0, spread=1.7e308, created_at=0.0)))
    store.write(lambda conn: conn.execute(scores.insert().values(response_id=d, model="rm", score=0.0, spread=1.7e308, created_at=0.0)))
    assert store.write(lambda conn: add_scores(conn, "other", [Score(c, 0.0)], now=store.now())) == 0
    assert priorities(store)[old] == 0.0


def test_a_file_with_a_number_of_401_digits_is_refused_in_one_line(tmp_path, capsys):
    with Store.open(tmp_path / "studio.db") as made:
        [(_, (first, _))] = pairs(made, 1)
    file = tmp_path / "scores.jsonl"
    file.write_text(f'{{"response_id": {first}, "score": 1{"0" * 400}}}\n')
    with pytest.raises(SystemExit, match="1"):
        main(["feedback", "scores", str(file), "--model", "rm", "--db", str(tmp_path / "studio.db")])
    assert f"response {first}: score is" in capsys.readouterr().err
