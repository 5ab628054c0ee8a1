"""Downloads from a server of our own, well-behaved and hostile."""

from __future__ import annotations

import hashlib
import io
import logging
import stat
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from robustness import retrying
from robustness.cli import main
from robustness.errors import DataError, UsageError
from robustness.recipes.assets import downloading
from robustness.recipes.assets import lexical as assets
from robustness.recipes.assets.downloading import fetch, get_asset
from robustness.recipes.assets.registry import ASSETS, Asset, RemoteFile
from robustness.recipes.assets.resources import Resources

STALL = 30.0
"""Seconds; a test that waits for it has failed."""
CONTENT = b'{"good": ["fine"]' + b" " * 20_000 + b"}"


@dataclass
class Served:
    """What a server answers, by path, and what it was asked."""

    url: str = ""
    answers: dict[str, bytes] = field(default_factory=dict)
    cut_short: set[str] = field(default_factory=set)
    busy: int = 0
    """Answers to come that are 503."""
    stalls: list[str] = field(default_factory=list)
    """Where the answers to come stall for longer than is waited: `head`, or `body` once half of it is sent."""
    awake: threading.Event = field(default_factory=threading.Event)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """On this machine; it may be asked, and little time passes between tries."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(retrying, "FIRST_WAIT", 0.01)
    served = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            stall = served.stalls.pop(0) if served.stalls else ""
            if stall == "head":
                served.awake.wait(STALL)
            if served.busy:
                served.busy -= 1
                self.send_error(503)
                return
            body = served.answers.get(self.path)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            half = len(body) // 2
            self.wfile.write(body[:half])
            if stall == "body":
                served.awake.wait(STALL)
            if self.path not in served.cut_short:
                self.wfile.write(body[half:])

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Clients that have stopped waiting are part of these tests."""

    with Server(("127.0.0.1", 0), Handler) as listening:
        served.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=partial(listening.serve_forever, poll_interval=0.01))
        thread.start()
        yield served
        served.awake.set()
        listening.shutdown()
        thread.join()


def one_file(server: Served, content: bytes = CONTENT, *, sha256: str | None = None, size: int | None = -1) -> Asset:
    server.answers["/list.json"] = content
    file = RemoteFile(
        f"{server.url}/list.json",
        hashlib.sha256(content).hexdigest() if sha256 is None else sha256,
        len(content) if size == -1 else size,
    )
    return Asset("list", "lists/list.json", "testing", "here", "none", (file,))


def archive_of(server: Served, *members: tuple[str, bytes], link: str = "") -> Asset:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name)
            if name == link:
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, content)
    asset = one_file(server, packed.getvalue())
    return replace(asset, path="taggers/tagger", unpack=True)


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_is_downloaded_checked_and_put_in_its_place(server: Served, tmp_path: Path) -> None:
    said: list[str] = []

    place = fetch(one_file(server), tmp_path / "new", said.append)

    assert place == tmp_path / "new/lists/list.json"
    assert place.read_bytes() == CONTENT
    assert files_below(tmp_path) == ["new/lists/list.json"]
    assert f"{server.url}/list.json" in said[0]


def test_who_listens_is_told_the_bytes_of_each_block_and_the_size(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustness.recipes.assets.downloading.BLOCK", len(CONTENT) // 2 + 1)
    heard: list[tuple[str, int, int | None]] = []
    asset = one_file(server, size=None)

    fetch(asset, tmp_path, on_bytes=lambda *told: heard.append(told))

    assert [told[1:] for told in heard] == [(len(CONTENT) // 2 + 1, len(CONTENT)), (len(CONTENT), len(CONTENT))]
    assert {told[0] for told in heard} == {asset.name}


def test_what_is_there_is_not_downloaded_again(server: Served, tmp_path: Path) -> None:
    asset = one_file(server)
    fetch(asset, tmp_path)
    said: list[str] = []

    fetch(asset, tmp_path, said.append)

    assert server.asked == ["/list.json"]
    assert "already there" in said[0]


def test_another_file_in_its_place_is_left_as_it_is(server: Served, tmp_path: Path) -> None:
    place = tmp_path / "lists/list.json"
    place.parent.mkdir()
    place.write_text("mine")

    with pytest.raises(DataError, match="is not the published file"):
        fetch(one_file(server), tmp_path)
    assert place.read_text() == "mine"
    assert server.asked == []


@pytest.mark.parametrize("size", [len(CONTENT), None])
def test_an_interrupted_download_leaves_nothing(server: Served, tmp_path: Path, size: int | None) -> None:
    asset = one_file(server, size=size)
    server.cut_short.add("/list.json")

    with pytest.raises(DataError, match="run the command again"):
        fetch(asset, tmp_path)
    assert files_below(tmp_path) == []
    assert [path.name for path in tmp_path.rglob(".*")] == []

    server.cut_short.clear()
    assert fetch(asset, tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_with_both(server: Served, tmp_path: Path) -> None:
    asset = one_file(server, sha256="0" * 64)

    with pytest.raises(DataError, match=f"expected sha256 {'0' * 64}, found {hashlib.sha256(CONTENT).hexdigest()}"):
        fetch(asset, tmp_path)
    assert files_below(tmp_path) == []


def test_a_file_larger_than_it_should_be_is_refused(server: Served, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="received more"):
        fetch(one_file(server, size=100), tmp_path)
    assert files_below(tmp_path) == []


def test_a_missing_file_and_a_silent_server_are_named(server: Served, tmp_path: Path) -> None:
    asset = one_file(server)
    server.answers.clear()

    with pytest.raises(DataError, match=r"could not be downloaded \(HTTPError: HTTP Error 404"):
        fetch(asset, tmp_path)
    nobody = replace(asset, files=(replace(asset.files[0], url="http://127.0.0.1:1/list.json"),))
    with pytest.raises(DataError, match="could not be downloaded"):
        fetch(nobody, tmp_path)


def test_a_busy_server_is_asked_again_after_waits_that_double(
    server: Served, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asset = one_file(server)
    server.busy = 2

    with caplog.at_level(logging.WARNING):
        place = fetch(asset, tmp_path)

    assert place.read_bytes() == CONTENT
    assert server.asked == ["/list.json"] * 3
    assert [record.getMessage()[-9:] for record in caplog.records] == ["in 0.01 s", "in 0.02 s"]


def test_a_server_that_stays_busy_is_named_after_four_tries(server: Served, tmp_path: Path) -> None:
    asset = one_file(server)
    server.busy = 9

    with pytest.raises(
        DataError, match=r"list\.json could not be downloaded \(HTTPError: HTTP Error 503.*run the com"
    ):
        fetch(asset, tmp_path)
    assert server.asked == ["/list.json"] * 4
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("stall", ["head", "body"])
def test_a_server_that_stalls_is_left_after_the_time_out_and_asked_again(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stall: str
) -> None:
    monkeypatch.setattr(downloading, "TIMEOUT", 0.15)
    asset = one_file(server)
    server.stalls = [stall, stall]
    started = time.monotonic()

    assert fetch(asset, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["/list.json"] * 3
    assert 0.3 <= time.monotonic() - started < STALL

    server.stalls = [stall] * 4
    with pytest.raises(DataError, match="could not be downloaded .*timed out"):
        fetch(asset, tmp_path / "again")
    assert files_below(tmp_path / "again") == []


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"])
def test_offline_nothing_is_asked_of_any_server(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    asset = one_file(server)
    monkeypatch.setenv(name, "true")

    with pytest.raises(DataError, match=rf"asset list: offline mode is on \({name}=true\), so nothing is downloaded"):
        fetch(asset, tmp_path)
    assert server.asked == []
    assert files_below(tmp_path) == []

    monkeypatch.delenv(name)
    fetch(asset, tmp_path)
    monkeypatch.setenv(name, "1")
    assert fetch(asset, tmp_path).read_bytes() == CONTENT  # what is there needs no server


def test_an_archive_is_unpacked_into_its_own_folder(server: Served, tmp_path: Path) -> None:
    asset = archive_of(server, ("tagger/", b""), ("tagger/weights.json", b"{}"), ("tagger/more/tags.json", b"[]"))

    place = fetch(asset, tmp_path)

    assert place == tmp_path / "taggers/tagger"
    assert files_below(tmp_path) == ["taggers/tagger/more/tags.json", "taggers/tagger/weights.json"]


@pytest.mark.parametrize(
    "name",
    [
        "../escaped",
        "tagger/../../escaped",
        "/tmp/escaped",
        "tagger\\..\\..\\escaped",
        "C:/escaped",
        "other/file",
        "loose",
    ],
)
def test_an_archive_with_members_elsewhere_is_refused(server: Served, tmp_path: Path, name: str) -> None:
    asset = archive_of(server, ("tagger/weights.json", b"{}"), (name, b"hostile"))

    with pytest.raises(DataError, match="which does not lie in tagger/"):
        fetch(asset, tmp_path / "data")
    assert files_below(tmp_path) == []


def test_an_archive_with_a_link_is_refused(server: Served, tmp_path: Path) -> None:
    asset = archive_of(server, ("tagger/link", b"/etc/passwd"), link="tagger/link")

    with pytest.raises(DataError, match="which does not lie in"):
        fetch(asset, tmp_path)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("content", [b"no archive", b"PK\x03\x04 cut"])
def test_a_broken_archive_is_refused(server: Served, tmp_path: Path, content: bytes) -> None:
    asset = replace(one_file(server, content), path="taggers/tagger", unpack=True)

    with pytest.raises(DataError, match="cannot be read"):
        fetch(asset, tmp_path)
    assert files_below(tmp_path) == []


def test_a_model_is_there_with_all_its_files_or_not_at_all(server: Served, tmp_path: Path) -> None:
    server.answers |= {"/config.json": b"{}", "/model.safetensors": b"weights", "/1_Pooling/config.json": b"{}"}
    names = ("config.json", "1_Pooling/config.json", "model.safetensors")
    files = tuple(RemoteFile(f"{server.url}/{name}", name=name) for name in names)
    asset = Asset("model", "masked_lm/model", "testing", "here", "none", files)
    weights = server.answers.pop("/model.safetensors")

    with pytest.raises(DataError, match="404"):
        fetch(asset, tmp_path)
    assert files_below(tmp_path) == []

    server.answers["/model.safetensors"] = weights
    place = fetch(asset, tmp_path)
    assert files_below(place) == sorted(names)
    (place / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"lacks model\.safetensors"):
        fetch(asset, tmp_path)


def test_the_command_downloads_into_the_data_folder_where_recipes_find_it(
    server: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "counter-fitted-neighbours"
    served = one_file(server).files
    monkeypatch.setitem(ASSETS, name, replace(ASSETS[name], files=served))
    monkeypatch.setattr(sys, "argv", ["robustness", "assets", "get", name, "--data", str(tmp_path / "data")])

    with pytest.raises(SystemExit) as done:
        main()

    assert done.value.code == 0
    place = tmp_path / "data" / ASSETS[name].path
    assert capsys.readouterr().out.strip() == str(place)
    mine = Resources.of(tmp_path / "data")
    assert assets.find_asset(name, mine) == place
    assert assets.load_neighbours(mine) == {"good": ("fine",)}


def test_unknown_names_and_no_folder_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UsageError, match="did you mean 'wordnet'"):
        get_asset("wordnets", tmp_path)
    monkeypatch.delenv("ROBUSTNESS_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["robustness", "assets", "get", "wordnet"])

    with pytest.raises(SystemExit) as refused:
        main()

    assert refused.value.code == 2
    assert "give --data DIR" in capsys.readouterr().err


def test_the_list_says_what_is_there_and_the_command_for_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / ASSETS["counter-fitted-neighbours"].path
    place.parent.mkdir(parents=True)
    place.touch()
    monkeypatch.setattr(sys, "argv", ["robustness", "assets", "list", "--data", str(tmp_path)])

    with pytest.raises(SystemExit):
        main()

    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines()}
    assert set(lines) == set(ASSETS)
    assert lines["counter-fitted-neighbours"].startswith("ready")
    assert lines["distilroberta-base"].startswith("missing")
    assert "robustness assets get distilroberta-base --data" in lines["distilroberta-base"]


@pytest.mark.parametrize("asset", ASSETS.values(), ids=list(ASSETS))
def test_every_registered_file_is_fetched_securely_from_a_fixed_revision(asset: Asset) -> None:
    parts = partial(str.split, sep="/")

    assert asset.licence and asset.source and asset.files
    for file in asset.files:
        assert file.url.startswith("https://")
        assert any(len(part) == 40 and set(part) <= set("0123456789abcdef") for part in parts(file.url))
        assert file.sha256 == "" or len(file.sha256) == 64
        assert ".." not in file.name and not file.name.startswith("/")
