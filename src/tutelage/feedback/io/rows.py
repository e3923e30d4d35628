"""A batch of judgements as rows of the store's tables: what is there already is found, what is not is added, a few statements a table."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Table, bindparam, update

from tutelage.base.faults import shorten
from tutelage.base.records import Judgement, Response, prompt_to_json
from tutelage.base.times import from_iso
from tutelage.feedback.content import ANSWERS, clean, erased_prompts, prompt_hash, same_words, set_aside
from tutelage.feedback.erase import is_erased
from tutelage.feedback.errors import ContentError
from tutelage.feedback.io.keys import Place, insert_all, key_of, known, new_ids, origin_rows, select_in
from tutelage.feedback.io.records import value_of
from tutelage.feedback.schema import assignments, judgements, labelers, origins, prompts, responses, tasks

OF_TASK = ("item", "labels", "untold")
"""What the store keeps of a judgement's `extra` with its task."""
BOUNDS = {"rating": (-1e6, 1e6), "strength": (-1e6, 1e6), "weight": (0, 1e6), "p_select": (0, 1), "seconds": (0, 1e8)}
"""Wide enough for every scale people use, so that what lies outside is a mistake (nan too), and sums of what lies inside are finite."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A judgement ready to be stored: who gave it (None: nobody yet), the batch its item is in, where it stood, its prompt as kept.

    split: the side a new prompt is put on.
    """

    judgement: Judgement
    labeler: str | None
    batch: str | None
    place: Place
    content: Any
    hash: str
    at: float | None
    split: str = "train"


def prepare(judgement: Judgement, labeler: str | None, batch: str | None, place: Place, *, now: float) -> Prepared:
    """Everything that needs no database. Raises: ValueError, ContentError with the reason why the store cannot hold it."""
    at = None if judgement.at is None else from_iso(judgement.at)
    if at is not None and not 0 <= at <= now + 86400:
        raise ValueError(f"at is {shorten(judgement.at)}, which is before 1970 or to come (ISO 8601, or seconds, not milliseconds)")
    for name, (low, high) in BOUNDS.items():
        value = getattr(judgement, name)
        if value is not None and not low <= value <= high:
            raise ValueError(f"{name} is {shorten(value)}, not from {low:g} to {high:g}")
    if judgement.p_select <= 0:
        raise ValueError(f"p_select is {shorten(judgement.p_select)}, not a probability above 0")
    answers = [(answer.text, answer.model) for answer in judgement.responses]
    if len(set(answers)) < len(answers):
        raise ValueError("two of its answers are the same")
    fewest, most = ANSWERS[judgement.kind]
    if judgement.kind == "demonstration":
        fewest, most = 0, 1                                         # its answer is what was written
    if len(answers) < fewest or (len(answers) > most and most < 3):
        raise ValueError(f"a {judgement.kind} of {len(answers)} answers")
    kept = tuple(replace(answer, text=clean(answer.text), model=clean(answer.model), sampling=clean(answer.sampling))
                 for answer in judgement.responses)
    clean(value_of(judgement, range(len(answers))))
    content = clean(prompt_to_json(judgement.prompt))
    if not content or (isinstance(content, str) and not content.strip()):
        raise ContentError("an empty prompt")
    held = replace(judgement, responses=kept, group=clean(judgement.group), extra=clean(judgement.extra))
    return Prepared(held, clean(labeler), clean(batch), place, content, prompt_hash(content), at)


@dataclass(slots=True)
class _Slot:
    """A row on its way in: ids of its prompt and answers, and its task with the order in which that has the answers."""

    row: Prepared
    prompt: int = 0
    answers: Sequence[int] = ()
    task: int = 0
    order: Sequence[int] = ()


class Batch:
    """Rows to be written in one transaction (`write`), or only counted (`look`). name: what people call their file. overlap: people wanted
    for each item, if it is said. source: of new prompts, one of schema.SOURCES.

    new: table -> rows added. known: judgements, skips and items to be judged that were there already; known_tasks: the items of them.
    erased: rows left out, since what they speak of was; no_consent: since the store keeps their prompt without consent.
    """

    def __init__(self, conn: Connection, rows: Sequence[Prepared], *, name: str, overlap: int | None, now: float,
                 source: str = "import") -> None:
        self.conn, self.name, self.overlap, self.now, self.source = conn, name, overlap, now, source
        self.slots = [_Slot(row) for row in rows]
        self.new: Counter[str] = Counter()
        self.known = self.known_tasks = 0
        self.erased: list[Prepared] = []
        self.no_consent: list[Prepared] = []
        self._aside: set[str] = set()                               # hashes of these where a customer now consents
        self._new_ids = new_ids
        self._made: list[tuple[Table, list[dict[str, Any]]]] = []

    def write(self) -> Batch:
        """Add what is not there."""
        golden, judged = self._find()
        if self._aside:
            set_aside(self.conn, self._aside)
        for table, rows in self._made:
            insert_all(self.conn, table, rows)
        self._count_places(judged - golden.keys())
        self._make_gold(golden)
        return self

    def look(self) -> Batch:
        """Count what `write` would add. The connection only reads, so that nobody waits for it."""
        self._new_ids = lambda conn, table, count: list(range(-count, 0))      # each table is asked for once; no row has these
        self._find()
        return self

    def _find(self) -> tuple[dict[int, Any], set[int]]:
        """What is there and what is to be made, in the order in which rows refer to each other. Returns: as `_judgements`."""
        self._erased_people()
        self._prompts()
        self._answers()
        self._tasks()
        people = self._labelers()
        found = self._judgements(people)
        self._skips(people)
        return found

    def _erased_people(self) -> None:
        """Somebody who was erased does not come back with a file, nor does what it says of them."""
        people = is_erased(self.conn, "labeler", {slot.row.labeler for slot in self.slots if slot.row.labeler is not None})
        self._leave_out(lambda slot: slot.row.labeler in people)
        users = is_erased(self.conn, "user", {user for slot in self.slots if (user := user_of(slot.row.judgement)) is not None})
        self._leave_out(lambda slot: user_of(slot.row.judgement) in users)

    def _prompts(self) -> None:
        erased = erased_prompts(self.conn, {slot.row.hash for slot in self.slots})
        self._leave_out(lambda slot: slot.row.hash in erased)
        hashes = {slot.row.hash: same_words(slot.row.content) for slot in self.slots}
        there = list(select_in(self.conn, prompts.c.hash, chain(*hashes.values()), prompts.c.hash, prompts.c.id, prompts.c.consent))
        ids = {row.hash: row.id for row in there if row.consent}
        kept = {row.hash for row in there if not row.consent}
        if self.source == "customer":                               # those that come in consent (customers.choose)
            self._aside = kept
        else:
            self._leave_out(lambda slot: slot.row.hash not in ids and not kept.isdisjoint(hashes[slot.row.hash]), self.no_consent)
        missing = list({slot.row.hash: slot.row for slot in reversed(self.slots) if slot.row.hash not in ids}.values())
        made = []
        for row, id_ in zip(missing, self._new_ids(self.conn, prompts, len(missing)), strict=True):
            ids[row.hash] = id_
            extra = row.judgement.extra
            made.append({"id": id_, "hash": row.hash, "content": row.content, "source": self.source, "split": row.split,
                         "user": user_of(row.judgement), "language": extra.get("language", "en"),
                         "extra": {"file": self.name, "line": row.place.line}, "created_at": self.now})
        self._add(prompts, made)
        for slot in self.slots:
            slot.prompt = ids[slot.row.hash]

    def _answers(self) -> None:
        wanted: dict[str, tuple[_Slot, Response]] = {}
        keys: list[list[str]] = []
        for slot in self.slots:
            told = {answer_key(slot.prompt, slot.row.judgement, answer): answer for answer in shown(slot.row.judgement)}
            wanted.update({key: (slot, answer) for key, answer in told.items() if key not in wanted})
            keys.append(list(told))

        def made(key: str) -> dict[str, Any]:
            slot, answer = wanted[key]
            return {"prompt_id": slot.prompt, "text": None if "untold" in slot.row.judgement.extra else answer.text, "model": answer.model,
                    "sampling": answer.sampling, "logprobs": None if answer.logprobs is None else list(answer.logprobs),
                    "created_at": self.now}

        ids = self._found_or_made(responses, {key: slot.row.place for key, (slot, _) in wanted.items()}, made)
        for slot, of_slot in zip(self.slots, keys, strict=True):
            slot.answers = [ids[key] for key in of_slot]
        there = select_in(self.conn, responses.c.id, ids.values(), responses.c.id, responses.c.erased_at)
        erased = {row.id for row in there if row.erased_at is not None}
        self._leave_out(lambda slot: not erased.isdisjoint(slot.answers))

    def _tasks(self) -> None:
        wanted: dict[str, _Slot] = {}                               # the first that shows an item says in which order its answers stand
        makers: set[int] = set()                                    # and, where the item is new, makes it
        order: dict[str, Sequence[int]] = {}
        keys = [key_of("task", slot.row.judgement.kind, slot.row.batch, slot.prompt, sorted(slot.answers)) for slot in self.slots]
        for key, slot in zip(keys, self.slots, strict=True):
            wanted.setdefault(key, slot)

        def made(key: str) -> dict[str, Any]:
            slot, judgement = wanted[key], wanted[key].row.judgement
            makers.add(id(slot))
            order[key] = slot.answers
            places = self.overlap or 1
            return {"kind": judgement.kind, "prompt_id": slot.prompt, "response_ids": list(slot.answers), "overlap": places, "free": places,
                    "draw": random.random(), "batch": slot.row.batch, "p_select": judgement.p_select, "created_at": self.now,
                    "extra": {name: judgement.extra[name] for name in OF_TASK if name in judgement.extra}}

        ids = self._found_or_made(tasks, {key: slot.row.place for key, slot in wanted.items()}, made)
        there = {ids[key]: key for key in wanted if key not in order}
        order |= {there[row.id]: row.response_ids for row in select_in(self.conn, tasks.c.id, there, tasks.c.id, tasks.c.response_ids)}
        for key, slot in zip(keys, self.slots, strict=True):
            slot.task = ids[key]
            slot.order = [slot.answers.index(id_) for id_ in order[key]]
        self.known_tasks = sum(slot.row.labeler is None and id(slot) not in makers for slot in self.slots)
        self.known += self.known_tasks

    def _labelers(self) -> dict[str, int]:
        wanted = {slot.row.labeler: slot.row.judgement.group for slot in self.slots if slot.row.labeler is not None}
        ids = {row.name: row.id for row in select_in(self.conn, labelers.c.name, wanted, labelers.c.name, labelers.c.id)}
        missing = [name for name in wanted if name not in ids]
        made = dict(zip(missing, self._new_ids(self.conn, labelers, len(missing)), strict=True))
        self._add(labelers, [{"id": id_, "name": name, "group": wanted[name], "screening": {"state": "imported"},
                                 "created_at": self.now} for name, id_ in made.items()])
        return ids | made

    def _judgements(self, people: Mapping[str, int]) -> tuple[dict[int, Any], set[int]]:
        """Add those that are not there. Returns: task -> value of those marked as gold; the tasks that were judged."""
        given: list[tuple[_Slot, str, dict[str, Any]]] = []
        for slot in self.slots:
            judgement = slot.row.judgement
            if slot.row.labeler is not None and not judgement.extra.get("skipped"):
                value = clean(value_of(judgement, slot.order))
                given.append((slot, key_of("judgement", slot.task, slot.row.labeler, value, slot.row.at), value))
        seen = {key: place for key, (_, place) in known(self.conn, (key for _, key, _ in given)).items()}
        new: dict[str, tuple[_Slot, dict[str, Any]]] = {}
        again: dict[str, tuple[_Slot, dict[str, Any]]] = {}
        for slot, key, value in given:
            place = slot.row.place
            if key not in seen:
                seen[key], new[key] = place, (slot, value)
            elif seen[key] != place and seen[key].file == place.file:   # the same words twice in one file are two judgements
                name = key_of("again", key, place.line, place.part)
                self.known += name in again                         # the file came twice
                again[name] = slot, value
            else:
                self.known += 1
        there = known(self.conn, again)
        self.known += len(there)
        new |= {key: said for key, said in again.items() if key not in there}
        made = {key: self._judgement(slot, value, people) for key, (slot, value) in new.items()}
        self._make(judgements, made, {key: slot.row.place for key, (slot, _) in new.items()})
        golden = {slot.task: value for slot, value in new.values() if slot.row.judgement.extra.get("gold")}
        return golden, {slot.task for slot, _ in new.values()}

    def _judgement(self, slot: _Slot, value: Any, people: Mapping[str, int]) -> dict[str, Any]:
        row, judgement = slot.row, slot.row.judgement
        return {"task_id": slot.task, "labeler_id": people[row.labeler or ""], "kind": judgement.kind, "value": value,
                "sides": [slot.order.index(place) for place in judgement.extra.get("sides", ())], "p_select": judgement.p_select,
                "weight": judgement.weight, "seconds": judgement.seconds, "created_at": self.now if row.at is None else row.at}

    def _skips(self, people: Mapping[str, int]) -> None:
        slots = [slot for slot in self.slots if slot.row.labeler is not None and slot.row.judgement.extra.get("skipped")]
        skipped = {(slot.task, people[slot.row.labeler or ""]): slot.row for slot in slots}
        rows = self._to_assign([{"task_id": task, "labeler_id": labeler, "state": "skipped", "reason": "skipped before it was imported",
                                 "claimed_at": row.at or self.now, "expires_at": row.at or self.now, "ended_at": row.at or self.now}
                                for (task, labeler), row in skipped.items()])
        self._made.append((assignments, rows))
        self.new["skips"] += len(rows)
        self.known += len(slots) - len(rows)

    def _to_assign(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Without those of people who have an assignment to the task: they keep it."""
        there = {(row.task_id, row.labeler_id) for row in select_in(self.conn, assignments.c.task_id, (row["task_id"] for row in rows),
                                                                    assignments.c.task_id, assignments.c.labeler_id)}
        return [row for row in rows if (row["task_id"], row["labeler_id"]) not in there]

    def _count_places(self, judged: set[int]) -> None:
        """How many people each task still wants: as many as were asked for, less those who judged it or hold it now."""
        people: defaultdict[int, set[int]] = defaultdict(set)
        for row in select_in(self.conn, judgements.c.task_id, judged, judgements.c.task_id, judgements.c.labeler_id):
            people[row.task_id].add(row.labeler_id)
        given = select_in(self.conn, assignments.c.task_id, judged, assignments.c.task_id, assignments.c.state)
        held = Counter(row.task_id for row in given if row.state == "reserved")
        changes, barred = [], []
        for row in select_in(self.conn, tasks.c.id, judged, tasks.c.id, tasks.c.overlap, tasks.c.state, tasks.c.purpose):
            if row.purpose == "gold":
                continue
            taken = len(people[row.id]) + held[row.id]
            overlap = max(row.overlap, taken)
            done = "done" if overlap == taken and not held[row.id] and row.state == "open" else row.state
            changes.append({"task": row.id, "overlap": overlap, "free": overlap - taken, "state": done})
            if overlap > taken:
                barred += [{"task_id": row.id, "labeler_id": who, "state": "barred", "reason": "judged it before it was imported",
                            "claimed_at": self.now, "expires_at": self.now, "ended_at": self.now} for who in sorted(people[row.id])]
        if changes:
            self.conn.execute(update(tasks).where(tasks.c.id == bindparam("task")).values(
                overlap=bindparam("overlap"), free=bindparam("free"), state=bindparam("state")), changes)
        insert_all(self.conn, assignments, self._to_assign(barred))

    def _make_gold(self, golden: Mapping[int, Any]) -> None:
        """Items whose answer the file knows: everyone may be given them, and is measured by them."""
        for task, value in golden.items():
            expected = value | ({"reasons": value["comment"]} if "comment" in value else {})
            self.conn.execute(update(tasks).where(tasks.c.id == task).values(purpose="gold", expected=expected, state="open",
                                                                             free=tasks.c.overlap))

    def _found_or_made(self, table: Table, wanted: Mapping[str, Place], made: Callable[[str], dict[str, Any]]) -> dict[str, int]:
        """Key -> id of rows that the store remembers or gets now."""
        there = known(self.conn, wanted)
        missing = {key: made(key) for key in wanted if key not in there}
        return {key: id_ for key, (id_, _) in there.items()} | self._make(table, missing, wanted)

    def _make(self, table: Table, made: Mapping[str, dict[str, Any]], places: Mapping[str, Place]) -> dict[str, int]:
        ids = dict(zip(made, self._new_ids(self.conn, table, len(made)), strict=True))
        self._add(table, [{"id": ids[key], **row} for key, row in made.items()])
        self._made.append((origins, origin_rows({key: (id_, places[key]) for key, id_ in ids.items()})))
        return ids

    def _add(self, table: Table, rows: list[dict[str, Any]]) -> None:
        self._made.append((table, rows))
        self.new[table.name] += len(rows)

    def _leave_out(self, out: Callable[[_Slot], bool], told: list[Prepared] | None = None) -> None:
        """told: where those rows are named; None: with the erased ones."""
        kept = [slot for slot in self.slots if not out(slot)]
        if len(kept) < len(self.slots):
            (self.erased if told is None else told).extend(slot.row for slot in self.slots if out(slot))
            self.slots = kept


def shown(judgement: Judgement) -> Sequence[Response]:
    """The answers of its task: of a demonstration none, since the answer is what was given."""
    return () if judgement.kind == "demonstration" else judgement.responses


def user_of(judgement: Judgement) -> str | None:
    """Whose prompt it is, by the customer's own id; None where the file does not say."""
    user = judgement.extra.get("user")
    return None if user is None else str(user)


def answer_key(prompt: int, judgement: Judgement, answer: Response) -> str:
    return key_of("response", prompt, None if "untold" in judgement.extra else answer.text, answer.model)
