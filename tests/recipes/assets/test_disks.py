"""Downloads onto disks that refuse them."""

from __future__ import annotations

import hashlib
import resource
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from robustness.cli import main
from robustness.errors import DataError
from robustness.recipes.assets.downloading import fetch
from robustness.recipes.assets.registry import ASSETS, Asset, RemoteFile


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Addresses of files are asked for, as any other."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def asset_of(source: Path, *, unpack: bool = False) -> Asset:
    content = source.read_bytes()
    file = RemoteFile(source.as_uri(), hashlib.sha256(content).hexdigest(), len(content))
    return Asset("list", "taggers/tagger", "testing", "here", "none", (file,), unpack=unpack)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Lets writes beyond this many bytes of a file fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("unpack", [False, True])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, *, unpack: bool) -> None:
    source, folder = tmp_path / "source", tmp_path / "data"
    if unpack:
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("tagger/weights", bytes(1_000_000))
    else:
        source.write_bytes(bytes(1_000_000))
    asset = asset_of(source, unpack=unpack)
    assert (source.stat().st_size < 10_000) is unpack  # so that an archive is received whole

    with files_of_at_most(10_000), pytest.raises(DataError) as refused:
        fetch(asset, folder)

    said = str(refused.value)
    assert said.startswith(f"asset list: cannot be put at {folder / asset.stored}: [Errno 27]")
    assert said.endswith("make space, or give another data folder")
    assert list(folder.rglob("*")) == [folder / "taggers"]
    assert fetch(asset, folder).exists()


def test_a_folder_that_cannot_be_made_is_told_and_the_command_exits_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "data"
    file.write_text("mine")
    monkeypatch.setitem(ASSETS, "list", asset_of(file))
    monkeypatch.setattr(sys, "argv", ["robustness", "assets", "get", "list", "--data", str(file / "inside")])

    with pytest.raises(SystemExit) as refused:
        main()

    assert refused.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "asset list: cannot be put at" in said and "[Errno 20] Not a directory" in said
    assert said.endswith("give another data folder")
    assert file.read_text() == "mine"
