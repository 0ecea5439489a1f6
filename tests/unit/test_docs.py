"""Every configuration that the documentation shows is one that would run, and every link leads somewhere."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.cli import main
from headgate.config.load import load
from tests import pki

DOCS = Path(__file__).parents[2] / "docs"
WHOLE = ("from-nginx", "from-haproxy", "from-gunicorn", "admin-api", "tls")
PAGES = sorted(DOCS.glob("*.md"))


def configurations() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for number, block in enumerate(re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)):
            if "[[listeners]]" in block or page.stem in WHOLE:  # elsewhere a part may be shown
                yield f"{page.stem}-{number}", block


@pytest.mark.parametrize(("name", "text"), list(configurations()), ids=lambda value: value if "\n" not in value else "")
def test_what_is_shown_would_run(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "headgate.toml"
    path.write_text(pki.with_certificates(text, tmp_path))
    load(path, {})


@pytest.mark.parametrize("page", WHOLE)
def test_check_agrees(page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command itself; where it could listen, which a machine may not allow at port 80."""
    for name, text in configurations():
        if name.startswith(page):
            path = tmp_path / "headgate.toml"
            here = pki.with_certificates(text, tmp_path)
            path.write_text(
                re.sub(r'^bind = ":(\d+)"', lambda m: f'bind = "127.0.{m[1][:2]}.1:0"', here, flags=re.MULTILINE)
            )
            assert tomllib.loads(text)["pools"]
            assert main(["check", "-c", str(path)]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name}: {target}"
