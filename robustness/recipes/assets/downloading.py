"""Downloads assets, only on request; verifies them and moves each into place whole or not at all."""

from __future__ import annotations

import hashlib
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from robustness.definitions.naming import nearest
from robustness.errors import DataError, UsageError
from robustness.paths import FULL
from robustness.recipes.assets.registry import ASSETS, Asset, RemoteFile
from robustness.retrying import offline_setting, with_retries

TIMEOUT = 60
"""Seconds to wait for an answer."""
BLOCK = 1 << 20
"""Bytes read at a time."""
UNPACKED_LIMIT = 1 << 30
"""Bytes that an archive may unpack to."""

OnMessage = Callable[[str], None]
OnBytes = Callable[[str, int, int | None], None]
"""Given the asset's name, the bytes received of a file, and its size where that is known."""


def _ignore(*_: object) -> None:
    """What is called where nobody listens."""


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told of a download."""

    message: OnMessage = _ignore
    bytes: OnBytes = _ignore


def get_asset(name: str, folder: Path, on_message: OnMessage = _ignore, on_bytes: OnBytes = _ignore) -> Path:
    """Downloads an asset into a data folder and returns its path; an asset that exists is not touched.

    Downloads to a temporary name in the same folder, checks, then renames: an interrupted download leaves nothing.

    Raises:
        UsageError: no such asset.
        DataError: the download failed (perhaps in offline mode), is not the published file, another file is in its
            place, or the folder cannot be written to.
    """
    if name not in ASSETS:
        raise UsageError(f"assets get {name}: unknown asset{nearest(name, ASSETS)}")
    return fetch(ASSETS[name], folder, on_message, on_bytes)


def fetch(asset: Asset, folder: Path, on_message: OnMessage = _ignore, on_bytes: OnBytes = _ignore) -> Path:
    """Downloads an asset, registered or not, as `get_asset` does."""
    try:
        return _fetch(asset, folder, Listener(on_message, on_bytes))
    except OSError as error:  # one of the server is a DataError already
        remedy = "make space, or give" if error.errno in FULL else "give"
        raise DataError(
            f"asset {asset.name}: cannot be put at {folder / asset.stored}: {error}; {remedy} another data folder"
        ) from error


def _fetch(asset: Asset, folder: Path, listener: Listener) -> Path:
    place = folder / asset.stored
    present = next((path for path in (place, folder / asset.path) if path.exists()), None)
    if present is not None:
        if not asset.is_nltk:  # several forms of NLTK's packages are in use
            _check_present(asset, present)
        listener.message(f"{asset.name}: already there: {present}")
        return present
    if setting := offline_setting():
        raise DataError(
            f"asset {asset.name}: offline mode is on ({setting}), so nothing is downloaded; unset it, or put the "
            f"files at {asset.stored} in the data folder yourself"
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as name:
        staged = _stage(asset, Path(name), listener)
        staged.rename(place)
    listener.message(f"{asset.name}: wrote {place}")
    return place


def _stage(asset: Asset, folder: Path, listener: Listener) -> Path:
    """Downloads into `folder`; returns the file or folder to rename."""
    content = folder / "content"
    if not any(file.name for file in asset.files):
        _download(asset, asset.files[0], content, listener)
        return _unpack(asset, content, folder / "unpacked") if asset.unpack else content
    content.mkdir()
    for file in asset.files:
        target = content / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        _download(asset, file, target, listener)
    return content


def _download(asset: Asset, file: RemoteFile, target: Path, listener: Listener) -> None:
    listener.message(f"{asset.name}: downloading {file.url}" + (f" ({file.size:,} bytes)" if file.size else ""))
    try:
        received, announced, found = with_retries(lambda: _receive(asset, file, target, listener), asset.name)
    except (OSError, HTTPException) as error:
        if isinstance(error, OSError) and error.errno in FULL:  # no server causes it
            raise
        reason = f"{type(error).__name__}: {error}"
        raise DataError(
            f"asset {asset.name}: {file.url} could not be downloaded ({reason}); run the command again, or put the "
            f"file at {asset.stored} in the data folder yourself"
        ) from error
    expected = file.size if file.size is not None else announced
    if received != expected:
        raise DataError(
            f"asset {asset.name}: {file.url}: expected {expected} bytes, received "
            f"{'more' if received > expected else received}; run the command again"
        )
    if file.sha256 and found != file.sha256:
        raise DataError(
            f"asset {asset.name}: {file.url} is not the published file: expected sha256 {file.sha256}, found "
            f"{found}; nothing was written"
        )


def _receive(asset: Asset, file: RemoteFile, target: Path, listener: Listener) -> tuple[int, int, str]:
    """Writes what a server sends; returns the bytes received, the bytes it announced, and the sha256."""
    digest = hashlib.sha256()
    received = 0
    with urllib.request.urlopen(file.url, timeout=TIMEOUT) as answer, target.open("wb") as stream:
        announced = answer.headers.get("Content-Length")
        while block := answer.read(BLOCK):
            received += len(block)
            if file.size is not None and received > file.size:
                break
            digest.update(block)
            stream.write(block)
            listener.bytes(asset.name, received, file.size or (int(announced) if announced else None))
    return received, int(announced or received), digest.hexdigest()


def _unpack(asset: Asset, archive: Path, folder: Path) -> Path:
    """Unpacks a zip file into `folder`; returns its one folder, which has the asset's name."""
    name = PurePosixPath(asset.path).name
    try:
        with zipfile.ZipFile(archive) as content:
            members = content.infolist()
            for member in members:
                _refuse_hostile(asset, member, name)
            if sum(member.file_size for member in members) > UNPACKED_LIMIT:
                raise DataError(f"asset {asset.name}: its archive unpacks to more than {UNPACKED_LIMIT:,} bytes")
            content.extractall(folder)
    except (zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"asset {asset.name}: its archive cannot be read: {error}; nothing was written") from error
    if not (folder / name).is_dir():
        raise DataError(f"asset {asset.name}: its archive holds no folder {name}; nothing was written")
    return folder / name


def _refuse_hostile(asset: Asset, member: zipfile.ZipInfo, folder: str) -> None:
    """Refuses members outside the asset's own folder: absolute paths, parent folders and links."""
    path = PurePosixPath(member.filename.replace("\\", "/"))
    is_link = (member.external_attr >> 16) & 0o170000 == 0o120000
    if path.is_absolute() or ".." in path.parts or path.parts[:1] != (folder,) or ":" in member.filename or is_link:
        raise DataError(
            f"asset {asset.name}: its archive holds {member.filename!r}, which does not lie in {folder}/; "
            "nothing was written"
        )


def _check_present(asset: Asset, place: Path) -> None:
    """Checks that an existing file is the published one, where a checksum is known."""
    for file in asset.files:
        path = place / file.name if file.name else place
        if not path.is_file():
            raise DataError(f"asset {asset.name}: {place} lacks {file.name}; move it away and run the command again")
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if file.sha256 and found != file.sha256:
            raise DataError(
                f"asset {asset.name}: {path} is not the published file (sha256 {found}, expected {file.sha256}); it "
                "was not touched: move it away and run the command again"
            )
