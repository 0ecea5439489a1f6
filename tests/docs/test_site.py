"""The pages make a site: no link leads nowhere, every page is in the table of contents, and nothing is fetched from
elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from .page import ROOT


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--builder", "html", "docs", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    for page in site.glob("*.html"):
        text = page.read_text()
        assert not re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?:https?:)?//[^"]*"', text), page.name
