"""The studio's app: the pages put together."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI

from tutelage.feedback.store import Store
from tutelage.web.app import create_app
from tutelage.web.site import Site

from . import dashboard, disputes, imports, join, lead, me, people, quality, screening, training, work
from .news import news_of


def create_studio(store: Store, site: Site, trainer: training.Trainer | None = None) -> FastAPI:
    """The studio on an open store. Routes are refused to everybody who is not signed in, but for the doors in `join`.

    trainer: what Retrain does; None: it cannot be started here.
    """
    app = create_app(store, site, package="tutelage.studio", title="tutelage studio")
    app.state.trainer = trainer
    pages = app.state.web.pages
    pages.globals["news"] = partial(news_of, store)
    pages.filters |= {"duration": training.duration, "share": training.share, "points": training.points}
    for room in (join, work, me, people, lead, disputes, imports, screening, training, quality, dashboard):
        app.include_router(room.router)
    return app
