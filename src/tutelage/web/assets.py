"""Static files: read once, served under names that hold their hash, so that a browser asks for each only once."""

from __future__ import annotations

import gzip
import hashlib
import tomllib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from tutelage.base.errors import ArtifactError

TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_FOREVER = {"cache-control": "public, max-age=31536000, immutable", "vary": "Accept-Encoding"}


class Asset(NamedTuple):
    """One static file. url: where it is served."""

    url: str
    type: str
    body: bytes
    gzipped: bytes


class Assets:
    """The static files of some packages. No path of a request ever reaches the disk: only the names read at the start are known."""

    def __init__(self, *packages: str) -> None:
        self._by_name: dict[str, Asset] = {}
        for package in packages:
            for file in (resources.files(package) / "static").iterdir():
                if PurePosixPath(file.name).suffix in TYPES:
                    self._by_name[file.name] = _asset(file)
        self._by_url = {asset.url: asset for asset in self._by_name.values()}
        self.version = hashlib.sha256("".join(sorted(self._by_url)).encode()).hexdigest()[:12]

    def url(self, name: str) -> str:
        """Where a file is served. Raises KeyError for a file that is not there."""
        return self._by_name[name].url

    def serve(self, request: Request) -> Response:
        """Answer a request for a static file."""
        asset = self._by_url.get(request.url.path)
        if asset is None:
            return Response("no such file", 404, media_type="text/plain")
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(asset.gzipped, headers=_FOREVER | {"content-encoding": "gzip"}, media_type=asset.type)
        return Response(asset.body, headers=_FOREVER, media_type=asset.type)


def check_vendored(package: str = "tutelage.web") -> None:
    """Hold the files of others to the hashes in vendor.toml. Raises: ArtifactError naming the first that differs."""
    folder = resources.files(package) / "static"
    for name, entry in tomllib.loads((folder / "vendor.toml").read_text(encoding="utf-8")).items():
        found = hashlib.sha256((folder / f"{name}.js").read_bytes()).hexdigest()
        if found != entry["sha256"]:
            raise ArtifactError(f"{name}.js is not the vendored {entry['package']}: sha256 {found}", hint="install tutelage again")


def _asset(file: Traversable) -> Asset:
    body = file.read_bytes()
    name = PurePosixPath(file.name)
    return Asset(f"/static/{name.stem}.{hashlib.sha256(body).hexdigest()[:12]}{name.suffix}", TYPES[name.suffix], body,
                 gzip.compress(body, 9, mtime=0))
