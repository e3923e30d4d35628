"""The studio's app: the pages put together."""

from __future__ import annotations

from fastapi import FastAPI

from tutelage.feedback.store import Store
from tutelage.web.app import create_app
from tutelage.web.outbound import Server
from tutelage.web.site import Site

from . import join, me, models, people, talk, work
from .api import create_api
from .assistant import Assistant


def create_studio(store: Store, site: Site, models_at: Server | None = None) -> FastAPI:
    """The studio on an open store. Routes are refused to everybody who is not signed in, but for the doors in `join`.

    models_at: the model server that the command line named, if it did.
    """
    app = create_app(store, site, package="tutelage.studio", title="tutelage studio")
    app.state.assistant = assistant = Assistant(store, models_at)
    app.state.web.pages.globals["may_talk"] = assistant.is_set
    for room in (join, work, talk, me, people, models):
        app.include_router(room.router)
    app.mount("/api/v1", create_api(app.state.web))
    return app
