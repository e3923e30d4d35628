"""The world's texts, demonstrations and prompts: repeatable, distinct, kept apart, and spread as the demo needs them."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tutelage.demo import world
from tutelage.demo.aspects import WEIGHTS
from tutelage.demo.gold import explain, score
from tutelage.demo.grammar import read_sentence, split_sentences
from tutelage.demo.people import CAREFUL, CROWD, PERFECT, RUDE, choose, write_answer
from tutelage.demo.prompts import find_question, questions
from tutelage.demo.tables import KINDS, items


@pytest.fixture(scope="module")
def demos() -> list[tuple[str, str]]:
    return [(d.prompt[0].content, str(d.response)) for d in world.demonstrations(0, 4000)]  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def golds(demos: list[tuple[str, str]]) -> np.ndarray:
    return np.array([score(*d) for d in demos])


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    def read(folder: str, seed: int) -> list[bytes]:
        paths = world.write_world(tmp_path / folder, seed, corpus_chars=60_000, num_demonstrations=100)
        return [p.read_bytes() for p in paths.values()]

    first, again, other = read("a", 0), read("b", 0), read("c", 1)
    assert first == again
    assert all(x != y for x, y in zip(first, other, strict=True))


def test_the_files_are_in_the_published_layouts(tmp_path: Path) -> None:
    paths = world.write_world(tmp_path, 3, corpus_chars=20_000, num_demonstrations=20)
    rows = {name: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] for name, path in paths.items()}
    assert all(set(r) == {"text"} for r in rows["corpus"])
    assert sum(len(r["text"]) for r in rows["corpus"]) >= 20_000
    assert all([m["role"] for m in r["prompt"] + r["completion"]] == ["user", "assistant"] for r in rows["demonstrations"])
    assert len(rows["demonstrations"]) == 20
    assert {r["kind"] for r in rows["prompts-heldout"]} == set(KINDS)


def test_there_are_hundreds_of_distinct_prompts_of_each_kind_and_the_splits_are_disjoint() -> None:
    train, heldout = world.prompts("train", 0), world.prompts("heldout", 0)
    assert all(n >= 300 for n in Counter(p.kind for p in train).values())
    assert all(n >= 50 for n in Counter(p.kind for p in heldout).values())
    assert len({p.text for p in train} | {p.text for p in heldout}) == len(train) + len(heldout)


def test_heldout_prompts_are_new_combinations_of_parts_seen_in_training() -> None:
    seen = Counter((q.kind, q.item.key) for q in questions() if q.split == "train")
    assert all(seen[q.kind, q.item.key] >= 5 for q in questions() if q.split == "heldout")
    train_words = {w for q in questions() if q.split == "train" for w in re.findall(r"\w+", q.text)}
    assert all(set(re.findall(r"\w+", q.text)) <= train_words for q in questions())


def test_neither_corpus_nor_demonstrations_contain_a_heldout_question(demos: list[tuple[str, str]]) -> None:
    heldout = {q.text for q in questions() if q.split == "heldout"}
    assert not heldout & {prompt for prompt, _ in demos}
    asked = [line.split(": ", 1)[1] for text in world.corpus(0, 1_000_000) for line in text.splitlines() if ": " in line]
    assert len(asked) > 3000
    assert not heldout & set(asked)


def test_no_demonstration_occurs_twice(demos: list[tuple[str, str]]) -> None:
    assert len(set(demos)) == len(demos)


def test_demonstrations_leave_the_room_that_training_is_to_close(golds: np.ndarray) -> None:
    assert 0.50 <= golds.mean() <= 0.60
    assert 0.12 <= golds.std() <= 0.17
    assert np.mean(golds > 0.9) < 0.03
    assert golds.max() == 1.0


def test_the_best_of_sixteen_ordinary_answers_stays_below_what_training_can_reach() -> None:
    rng = np.random.default_rng(0)
    pool = [q for q in questions() if q.split == "heldout"]
    best = [
        max(score(q.text, write_answer(rng, q.item, choose(rng))) for _ in range(16)) for q in rng.choice(np.array(pool, dtype=object), 200)
    ]
    assert np.mean(best) <= 0.85


def test_careful_people_answer_better_than_plain_ones_and_rude_ones_worst() -> None:
    rng = np.random.default_rng(0)
    pool = rng.choice(np.array(questions(), dtype=object), 500)
    means = {p.name: np.mean([score(q.text, write_answer(rng, q.item, p)) for q in pool]) for p, _ in CROWD}
    assert means["rude"] < means["hurried"] < means["careful"]
    assert means["careful"] - means["rude"] > 0.08
    assert {CAREFUL.name, RUDE.name} <= set(means)


def test_a_perfect_answer_to_nearly_every_question_scores_one() -> None:
    rng = np.random.default_rng(0)
    values = [score(q.text, write_answer(rng, q.item, PERFECT)) for q in questions()]
    assert np.mean(np.array(values) == 1.0) > 0.97
    assert min(values) > 0.9


def test_every_written_sentence_is_recognised_exactly_and_well_formed(demos: list[tuple[str, str]]) -> None:
    for sentence in {s for _, answer in demos for s in split_sentences(answer)}:
        reading = read_sentence(sentence)
        assert reading is not None and reading.exact, sentence
        assert sentence[0].isupper() and sentence[-1] in ".!?"
        assert not re.search(r"[{}]|  |\ba [aeio]\w+|\ban [^aeiouh\W]", sentence), sentence


def test_a_right_phrase_belongs_to_one_item_only() -> None:
    for kind, field in (
        ("help", "steps"),
        ("help", "why"),
        ("help", "do"),
        ("decline", "you"),
        ("unknown", "know"),
        ("ambiguous", "thing"),
    ):
        counts = Counter(phrase for item in items()[kind].values() for phrase in item.fields[field])  # type: ignore[index]
        assert max(counts.values()) == 1, (field, counts.most_common(2))


def test_a_question_is_found_again_through_case_a_greeting_and_a_typo() -> None:
    for text in ("How can I brew tea?", "how can i brew tea", "user: How can I brew tea?", "Please, how can I brew tea?"):
        question = find_question(text)
        assert question is not None and question.item.key == "tea"
    free = find_question("so, any idea how one should brew tea these days")
    assert free is not None and free.item.key == "tea"
    assert find_question("Explain the French revolution to me.") is None


def test_answers_fit_64_tokens_of_a_small_bpe(demos: list[tuple[str, str]]) -> None:
    import tokenizers

    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=1536, special_tokens=["<|pad|>"], show_progress=False, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator(world.corpus(0, 1_500_000), trainer)
    lengths = np.array([len(e.ids) + 1 for e in bpe.encode_batch([answer for _, answer in demos])])  # + 1: the end of turn
    assert np.mean(lengths <= 64) >= 0.99


def test_the_page_about_the_world_tells_the_truth(demos: list[tuple[str, str]]) -> None:
    page = " ".join((Path(__file__).parents[2] / "docs" / "world.md").read_text(encoding="utf-8").replace("\n> ", " ").split())
    for prompt, said, answer in re.findall(r"> \*(.+?)\* \((\d\.\d\d)\) \"(.+?)\"", page):
        assert (prompt, answer) in demos
        assert f"{score(prompt, answer):.2f}" == said
    for kind, weights in WEIGHTS.items():
        assert kind in page
        assert all(f"{aspect} {weight:.2f}".replace(" 0.", " .") in page for (_, aspect), weight in weights.items())
    for split in ("train", "heldout"):
        assert f"{len(world.prompts(split, 0)):,}" in page
    command, told = re.search(r'demo gold "(.+?)" "(.+?)" --json (\{.+?\}) ```', page).group(1, 2), re.search(r"--json (\{.+?\}) ```", page)
    assert told is not None and json.loads(told.group(1)) == explain(*command)
