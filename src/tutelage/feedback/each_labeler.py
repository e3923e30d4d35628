"""What the judgements of a store say of each labeler: work, agreement, reliability, and what the checks found. For leads' eyes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, median
from typing import Any

from tutelage.feedback import checks
from tutelage.feedback.agreement import with_experts, with_others
from tutelage.feedback.dawid_skene import dawid_skene
from tutelage.feedback.intervals import Statistic, share, undefined
from tutelage.feedback.labels import Labels
from tutelage.feedback.noisy_bt import noisy_bradley_terry
from tutelage.feedback.reliability import Z95, Skill
from tutelage.feedback.series import label_of
from tutelage.feedback.standing import Person, Said, Standing
from tutelage.feedback.values import STEPS, agrees

READ = ("comparison", "ranking", "rating", "label")
"""Kinds whose answers must be read to be judged."""
CHECKS = ("skill", "sides", "speed", "lines", "votes", "drift", "copies")
SKILL_TOLERANCE = 1e-3
"""Of the reliability by comparisons: a page shows two digits, and ten times as exact takes twice as long."""
HALF, FEW = 0.5, 20
"""Share of the usual skill below which a labeler is flagged, and labels that could be compared below which nobody is."""
DAY, DAYS_SHOWN = 86400.0, 60


@dataclass(frozen=True, slots=True)
class Flag:
    """What a check found wrong with a labeler. check: one of CHECKS. said: numbers and words that tell it."""

    check: str
    said: Mapping[str, Any]


@dataclass(frozen=True)
class EachLabeler:
    """One labeler. seconds: median a judgement. gold: share right of items whose answer is known; others, experts: agreement with theirs.

    pairs, labels: reliability by the comparisons (noisy Bradley-Terry) and by yes and no (Dawid and Skene), from -1 to 1.
    """

    id: int
    person: Person
    judgements: int
    seconds: float | None
    others: Statistic
    experts: Statistic
    gold: Statistic
    pairs: Statistic
    labels: Statistic
    flags: tuple[Flag, ...]


def each_labeler(standing: Standing, copies: Sequence[tuple[Said, str]]) -> list[EachLabeler]:
    """Everybody who judged: those with flags first, then by how much they did. copies: of `near_copies`."""
    counts = Counter(one.labeler for one in standing.said)
    seconds: dict[int, list[float]] = defaultdict(list)
    for one in standing.said:
        if one.seconds is not None:
            seconds[one.labeler].append(one.seconds)
    labels, gold = _labels(standing), _gold(standing)
    experts = {id_ for id_, person in standing.people.items() if person.role != "labeler"}
    others, of_experts = with_others(labels), with_experts(_labels(standing, adjudicated=True), experts)
    pairs, yes_no = reliability_of_pairs(standing), reliability_of_labels(standing)
    found = flags(standing, copies, pairs, yes_no)
    nothing = undefined("no label that others gave too")

    def skill(skills: Mapping[int, Skill] | str, labeler: int) -> Statistic:
        if isinstance(skills, str):
            return undefined(skills)
        return skills[labeler].skill if labeler in skills else undefined("none of this kind")

    rows = [EachLabeler(id_, standing.people[id_], count, median(seconds[id_]) if seconds[id_] else None, others.get(id_, nothing),
                        of_experts.get(id_, nothing), gold.get(id_, undefined("no gold item")), skill(pairs, id_), skill(yes_no, id_),
                        tuple(found.get(id_, ()))) for id_, count in counts.items()]
    return sorted(rows, key=lambda row: (-len(row.flags), -row.judgements, row.person.name))


def reliability_of_pairs(standing: Standing) -> dict[int, Skill] | str:
    """Labeler -> skill by the decided comparisons, or why there is none. Sides count where every one of them is known."""
    decided = [one for one in standing.of("comparison") if _winner(one) is not None]
    known: dict[Hashable, bool] = {
        task: expected["ranks"][0] < expected["ranks"][1] for task, expected in _expected(standing, "comparison").items()
        if len(set(expected.get("ranks", ()))) == 2}
    on_left = [one.sides[0] == 0 for one in decided] if all(one.sides for one in decided) else None
    fit = noisy_bradley_terry([one.task for one in decided], [one.labeler for one in decided], [_winner(one) == 0 for one in decided],
                              on_left, known=known, tolerance=SKILL_TOLERANCE)
    return fit if isinstance(fit, str) else _by_labeler(fit.skills)


def reliability_of_labels(standing: Standing) -> dict[int, Skill] | str:
    """Labeler -> skill by yes and no (and other verdicts), or why there is none."""
    said = standing.of("label")
    labels = Labels.of([one.task for one in said], [one.labeler for one in said], [label_of("label", one.value) for one in said])
    known = {task: label_of("label", expected) for task, expected in _expected(standing, "label").items()}
    fit = dawid_skene(labels, known={task: value for task, value in known.items() if value in labels.values})
    return fit if isinstance(fit, str) else _by_labeler(fit.skills())


def flags(standing: Standing, copies: Sequence[tuple[Said, str]], *skills: Mapping[int, Skill] | str) -> dict[int, list[Flag]]:
    """Labeler -> what the checks found. Each test allows for there being as many as labelers. skills: by pairs, by labels."""
    found: dict[int, list[Flag]] = defaultdict(list)
    for of_kind, which in zip(skills, ("pairs", "labels"), strict=True):
        _low_skill(found, of_kind, which)
    for check in (_sides, _speed, _lines, _votes, _drift):
        check(standing, found)
    for labeler, count in Counter(one.labeler for one, _ in copies).items():
        found[labeler].append(Flag("copies", {"count": count}))
    return found


def near_copies(standing: Standing) -> list[tuple[Said, str]]:
    """(demonstration or prompt, the source or earlier text that it nearly repeats)."""
    copies: list[tuple[Said, str]] = []
    for kind, sources in (("demonstration", standing.sources), ("prompt", [])):
        said = [one for one in standing.of(kind) if one.value.get("text")]
        repeated = checks.near_copies([one.value["text"] for one in said], sources)
        copies += [(one, source) for one, source in zip(said, repeated, strict=True) if source is not None]
    return copies


def fixed_pairs(standing: Standing) -> list[tuple[Said, float]]:
    """(judgement of a fixed pair, 1 where its first answer won, a half for a tie)."""
    said = [one for one in standing.of("comparison") if standing.items[one.task].purpose == "drift"]
    return [(one, {0: 1.0, 1: 0.0, None: 0.5}[_winner(one)]) for one in said]


def period_of(times: Sequence[float]) -> float:
    """A day, or a week where the times span more than two months; seconds."""
    return DAY if not times or max(times) - min(times) <= DAYS_SHOWN * DAY else 7 * DAY


def _sides(standing: Standing, found: dict[int, list[Flag]]) -> None:
    decided = [one for one in standing.of("comparison") if one.here and one.sides and _winner(one) is not None]
    for row in checks.position_bias([_winner(one) == one.sides[0] for one in decided], [one.labeler for one in decided]):
        _flag(found, row, "sides", share=row.left.value, n=row.left.n)


def _speed(standing: Standing, found: dict[int, list[Flag]]) -> None:
    read = [one for one in standing.of(*READ) if one.seconds is not None and standing.items[one.task].words]
    words = [standing.items[one.task].words for one in read]
    for row in checks.speed([one.seconds or 0.0 for one in read], words, [one.labeler for one in read]):
        _flag(found, row, "speed", share=row.too_fast.value, floor=checks.READING_FLOOR)


def _lines(standing: Standing, found: dict[int, list[Flag]]) -> None:
    for kind in READ:
        said = [(one, place) for one in standing.of(kind) if one.here and (place := _place(kind, one)) is not None]
        for row in checks.straight_lining([place for _, place in said], [one.labeler for one, _ in said]):
            _flag(found, row, "lines", longest=row.longest, kind=kind)


def _votes(standing: Standing, found: dict[int, list[Flag]]) -> None:
    """Of comparisons between two models that are known and differ: only there do votes of many items say the same thing."""
    told = [(one, models, winner) for one in standing.of("comparison") if (winner := _winner(one)) is not None
            and len(models := standing.items[one.task].models) == 2 and None not in models and models[0] != models[1]]
    pairs = [tuple(sorted(map(str, models))) for _, models, _ in told]
    first_won = [models[winner] == pair[0] for (_, models, winner), pair in zip(told, pairs, strict=True)]
    for row in checks.votes_against_everybody(pairs, first_won, [one.labeler for one, _, _ in told]):
        _flag(found, row, "votes", evidence=row.evidence)


def _drift(standing: Standing, found: dict[int, list[Flag]]) -> None:
    rows = fixed_pairs(standing)
    period = period_of([one.at for one, _ in rows])
    by_labeler: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for one, won in rows:
        by_labeler[one.labeler].append((won, one.at))
    tests = {labeler: checks.drift([won for won, _ in own], [at for _, at in own], period) for labeler, own in by_labeler.items()}
    told = {labeler: test for labeler, test in tests.items() if isinstance(test, checks.Drift)}
    for (labeler, test), stands in zip(told.items(), checks.holm([test.p_value for test in told.values()]), strict=True):
        if stands:
            found[labeler].append(Flag("drift", {"z": test.z}))


def _low_skill(found: dict[int, list[Flag]], skills: Mapping[int, Skill] | str, which: str) -> None:
    """Whose skill is surely below half of the middle labeler's: their labels count for less than half of others'.

    The interval is widened as for so many labelers (Bonferroni). It takes the others' part for known, which few labels do not allow.
    """
    if isinstance(skills, str):
        return
    known = {labeler: one.skill for labeler, one in skills.items() if one.skill.value is not None and one.skill.n >= FEW}
    usual = median([one.value or 0.0 for one in known.values()]) if known else 0.0
    wider = NormalDist().inv_cdf(1 - checks.FAMILY_ERROR / 2 / max(len(known), 1)) / Z95
    for labeler, one in known.items():
        assert one.value is not None and one.high is not None
        if one.value + wider * (one.high - one.value) < HALF * usual:
            found[labeler].append(Flag("skill", {"which": which, "skill": one.value, "usual": usual}))


def _flag(found: dict[int, list[Flag]], row: Any, check: str, **said: Any) -> None:
    if row.flagged:
        found[row.labeler].append(Flag(check, said))


def _labels(standing: Standing, adjudicated: bool = False) -> Labels:
    """All that are labels, each kind on a scale of its own.

    adjudicated: what an expert said of an adjudication item stands as a label of the task it was made of, beside what it overruled there.
    """
    rows = [(one, kind, value) for one in [*standing.said, *(standing.overruled if adjudicated else [])]
            if (kind := standing.items[one.task].kind) in READ and (value := label_of(kind, one.value)) is not None]
    values = [f"{kind}:{value}" for _, kind, value in rows]
    sources = {number: item.source for number, item in standing.items.items() if adjudicated and item.source is not None}
    return Labels.of([sources.get(one.task, one.task) for one, _, _ in rows], [one.labeler for one, _, _ in rows], values)


def _gold(standing: Standing) -> dict[int, Statistic]:
    right: dict[int, list[bool]] = defaultdict(list)
    for one in standing.said:
        item = standing.items[one.task]
        verdict = agrees(item.kind, one.value, item.expected) if item.purpose == "gold" and item.expected else None
        if verdict is not None:
            right[one.labeler].append(verdict)
    return {labeler: share(sum(own), len(own)) for labeler, own in right.items()}


def _expected(standing: Standing, kind: str) -> dict[int, Mapping[str, Any]]:
    return {task: item.expected for task, item in standing.items.items() if item.kind == kind and item.purpose == "gold" and item.expected}


def _winner(one: Said) -> int | None:
    """The answer that a comparison prefers, None for a tie."""
    first, second = one.value.get("ranks", (0, 0))
    return None if first == second else int(second < first)


def _place(kind: str, one: Said) -> Any:
    """What was clicked, as it stood on the page; None where that is not known."""
    if kind == "rating":
        return one.value["rating"]
    if kind == "label":
        return label_of(kind, one.value)
    if not one.sides:
        return None
    if kind == "ranking" and "ranks" in one.value:
        return tuple(one.value["ranks"][side] for side in one.sides)
    step = one.value.get("step")
    if step is None:
        winner = _winner(one)
        return "tie" if winner is None else one.sides.index(winner)
    return step if one.sides[0] == 0 else STEPS + 1 - step


def _by_labeler(skills: Sequence[Skill]) -> dict[int, Skill]:
    return {int(str(skill.labeler)): skill for skill in skills}
