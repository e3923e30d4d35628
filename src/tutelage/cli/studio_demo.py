"""What `tutelage studio --demo` serves: a store of the embedded world, and its panel at work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import func, select

from tutelage.demo.at_work import PanelAtWork
from tutelage.demo.tasks import fill
from tutelage.feedback.schema import tasks
from tutelage.feedback.store import Store

DEMO_TRAIN = ("data.eval_frac=0.2", "train.epochs=2", "train.batch_size=8", "optim.learning_rate=1e-3")
"""Settings of Retrain for some hundred judgements: the defaults, made for tens of thousands, would take 15 steps and hold 5 prompts out."""
DEMO_DB = Path("runs/studio-demo/studio.db")


def demo_policy() -> str | None:
    """The SFT model that `tutelage demo` left here, or its --quick one; None where it has not run."""
    made = (Path("runs") / run / "sft" for run in ("demo", "demo-quick"))
    return next((str(folder) for folder in made if (folder / "result.json").exists()), None)


@contextmanager
def demo_store(url: str | None) -> Iterator[Store]:
    """The store at `url` (default: runs/studio-demo/studio.db), filled where it holds no task yet, with the panel at work meanwhile."""
    if url is None:
        DEMO_DB.parent.mkdir(parents=True, exist_ok=True)
    with Store.open(url or DEMO_DB) as store:
        with store.read() as conn:
            empty = not conn.scalar(select(func.count()).select_from(tasks))
        if empty:
            store.write(lambda conn: fill(conn, 0, store.now()))
        with PanelAtWork(store):
            yield store
