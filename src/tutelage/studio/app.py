"""The studio's app: the pages put together."""

from __future__ import annotations

from functools import partial

from fastapi import FastAPI

from tutelage.feedback.store import Store
from tutelage.web.app import create_app
from tutelage.web.outbound import Server
from tutelage.web.site import Site

from . import dashboard, disputes, found, imports, join, lead, me, models, people, quality, screening, talk, training, work, writing
from .api import create_api
from .assistant import Assistant
from .news import news_of


def create_studio(store: Store, site: Site, *, trainer: training.Trainer | None = None, models_at: Server | None = None) -> FastAPI:
    """The studio on an open store. Routes are refused to everybody who is not signed in, but for the doors in `join`.

    trainer: what Retrain does; None: it cannot be started here. models_at: the model server that the command line named, if it did.
    """
    app = create_app(store, site, package="tutelage.studio", title="tutelage studio")
    app.state.trainer = trainer
    app.state.assistant = assistant = Assistant(store, models_at)
    app.state.web.of_person |= {"news": partial(news_of, store), "may_talk": partial(talk.may_talk, store, assistant)}
    app.state.web.pages.filters |= {"duration": training.duration}
    for room in (join, work, talk, me, people, models, lead, found, disputes, imports, screening, training, writing, quality, dashboard):
        app.include_router(room.router)
    app.mount("/api/v1", create_api(app.state.web))
    return app
