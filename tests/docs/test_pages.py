"""Every command that the documentation shows is run, and every configuration read."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from headgate.config.load import load
from tests import pki

from . import session
from .page import GENERATED, PAGES, ROOT, Block, blocks, pattern

LANGUAGES = {"sh", "toml", "text", "python", "nginx", "haproxy", "json", "yaml", "output", "{toctree}"}
RUN = [page for page in PAGES if any(block.language == "sh" for block in blocks(page)) and page.stem not in GENERATED]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_commands_do_what_the_page_says(page: Path, tmp_path: Path) -> None:
    if reason := session.missing():
        pytest.skip(reason)
    shown = blocks(page)
    printed = session.run(shown, tmp_path, ROOT)
    for block, after in zip(shown, [*shown[1:], None], strict=True):
        if block.language == "sh" and "not run" not in block.notes and after is not None and after.language == "text":
            said = printed[block.line]
            assert pattern(after.text).search(said), f"{page.name}:{after.line} is not what was printed:\n{said}"


def configurations() -> list[tuple[str, Block]]:
    return [
        (f"{page.stem}-{block.line}", block)
        for page in PAGES
        for block in blocks(page)
        if block.language == "toml" and "not run" not in block.notes
    ]


def whole(part: dict[str, Any], table: str) -> dict[str, Any]:
    """A part of a configuration, with a listener and backends where it has none."""
    config: dict[str, Any] = {}
    inner = config
    for name in table.split(".") if table != "top" else []:
        inner = inner.setdefault(name, {})
    inner.update(part)
    config.setdefault("listeners", [{"bind": "127.0.0.1:8080"}])
    for pool in config.setdefault("pools", {"web": {}}).values():
        pool.setdefault("backends", ["http://127.0.0.1:9001"])
    config.setdefault("routes", [{"path_prefix": f"/{name}", "pool": name} for name in config["pools"]])
    return config


@pytest.mark.parametrize(("name", "block"), configurations(), ids=lambda value: value if isinstance(value, str) else "")
def test_configurations_would_run(name: str, block: Block, tmp_path: Path) -> None:
    path = tmp_path / "headgate.toml"
    text = pki.with_certificates(block.text, tmp_path)
    path.write_text(text)
    if "[[listeners]]" not in block.text or "in" in block.notes:
        path = tmp_path / "headgate.json"
        path.write_text(json.dumps(whole(tomllib.loads(text), block.notes.get("in", "top"))))
    load(path, {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_says_what_it_is(page: Path) -> None:
    """One without a language would be run by nobody."""
    if page.stem not in GENERATED:
        assert [(block.line, block.language) for block in blocks(page) if block.language not in LANGUAGES] == []
