"""The real sets, imported: the agreement that each README gives, and nothing twice."""

from __future__ import annotations

from typing import Any

import pytest

from tests.feedback.io.sets import SETS
from tutelage.feedback.io.importing import Imported, import_files
from tutelage.feedback.stats import stats
from tutelage.feedback.store import Store


def imported(data_root, tmp_path, name: str, **more: Any) -> tuple[dict[str, dict[str, Any]], Imported]:
    """(batch -> what the stats say of its agreement, rounded to two decimals), and what the import said."""
    file, options = SETS[name]
    with Store.open(tmp_path / "studio.db") as store:
        done = import_files(store, data_root / name / f"{file}.jsonl.gz", prefix=f"{name}/", **options, **more)
        with store.read() as conn:
            found = stats(conn, resamples=0)
    return {row["batch"]: {key: value["value"] and round(value["value"], 2) for key, value in row.items() if isinstance(value, dict)}
            for row in found["agreement"]}, done


@pytest.mark.parametrize("name, expected", [
    # README: "Fleiss kappa 0.87 on this part"; the same pair in two orders, and twice, is one item, so alpha takes uneven numbers.
    ("pairwise_3annotators", {"alpha_nominal": 0.87}),
    # README: "66 % raw agreement, Krippendorff alpha 0.49 with ties as a third label".
    ("mtbench_votes", {"raw": 0.66, "alpha_nominal": 0.49}),
    # README: "raw agreement is 96 %, Krippendorff alpha 0.77" (0.956, 0.765) of its rows. Two summaries stand under two articles each and
    # are an item each here; of one the votes are three and three, 9 of whose 15 pairs differ: 0.9549.
    ("summary_factuality", {"raw": 0.95, "alpha_nominal": 0.77}),
    # README: "96 % raw agreement, Cohen kappa 0.93".
    ("xstest", {"raw": 0.96, "kappa": 0.93}),
    # README: single-annotator, so there is nothing to agree with.
    ("qa_feedback", {"raw": None, "alpha_nominal": None})])
def test_the_agreement_of_an_imported_set_is_what_its_readme_gives(data_root, tmp_path, name, expected):
    found, done = imported(data_root, tmp_path, name)
    assert {key: found[""][key] for key in expected} == expected and done.num_rejected == 0


def test_five_step_ratings_agree_as_the_readme_says_by_each_distance(data_root, tmp_path):
    # README: "Krippendorff alpha 0.44 nominal, 0.66 ordinal, 0.73 interval"; 10,941 ratings, a person's second one of an exchange counted.
    found, done = imported(data_root, tmp_path, "abuse_ratings")
    assert [found[""][f"alpha_{distance}"] for distance in ("nominal", "ordinal", "interval")] == [0.44, 0.66, 0.73]
    assert done.new["judgements"] == 10941


def test_rounds_are_batches_with_an_agreement_each(data_root, tmp_path):
    # README: "alpha 0.71 to 0.91 by round (0.87 in finalval)".
    found, done = imported(data_root, tmp_path, "bbq")
    alphas = {name: row["alpha_nominal"] for name, row in found.items()}
    assert (min(alphas.values()), max(alphas.values()), alphas["finalval"], len(alphas)) == (0.71, 0.91, 0.87, 11)
    assert done.num_rejected == 25 and [*done.rejected] == ["two of its answers are the same"]


@pytest.mark.slow
def test_the_strict_arguments_agree_as_the_readme_says(data_root, tmp_path):
    # README: "60 % and 0.34 on the strict ones".
    found, done = imported(data_root, tmp_path, "convincing_arguments", where={"strict": True})
    assert (found[""]["raw"], found[""]["alpha_nominal"]) == (0.60, 0.34) and done.read == 50496


@pytest.mark.slow
def test_all_arguments_agree_as_the_readme_says_and_come_once(data_root, tmp_path):
    # README: "52 % raw and Krippendorff alpha 0.26 on all pairs", "3,798 workers"; 14 pairs are of one text with itself.
    found, done = imported(data_root, tmp_path, "convincing_arguments")
    assert found[""]["alpha_nominal"] == 0.26 and done.new["labelers"] == 3798 and done.num_rejected == 70
    again = imported(data_root, tmp_path, "convincing_arguments")[1]
    assert not again.new and again.known == 74056


def test_a_set_read_twice_is_there_once(data_root, tmp_path):
    assert imported(data_root, tmp_path, "xstest")[1].new["judgements"] == 3920
    again = imported(data_root, tmp_path, "xstest")[1]
    assert not again.new and again.known == 3920
