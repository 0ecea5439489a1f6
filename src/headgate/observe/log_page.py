"""Prints docs/access-log.md from the table of fields: `python -m headgate.observe.log_page > docs/access-log.md`.

A test holds the page to the table.
"""

from __future__ import annotations

import sys

from headgate.config.log_fields import FIELDS

_INTRODUCTION = """\
# Access log

<!-- Made by `python -m headgate.observe.log_page` from src/headgate/config/log_fields.py. Change it there. -->

One line for every request, written as the request ends. Lines are made in C and written by a thread of their own, so no
disk and no reader of a pipe can hold up a request: where it cannot keep up, lines are dropped and counted
(`headgate_access_log_lines_dropped_total`, see [metrics](metrics.md)).

```toml
[access_log]
format = "json"
path = "/var/log/headgate/access.log"
fields = ["time", "client", "method", "path", "status", "total_s", "backend", "header:x-tenant"]
sample = 0.01
```

| format | a line |
|---|---|
| `text` | `2026-11-21T01:02:03.456Z 127.0.0.1 "GET /path HTTP/1.1" 200 1234 pool=web backend=http://127.0.0.1:9001 \
attempts=1 ttfb=0.0012 total=0.0015 id=…`, then `queued=` and `error=` where there is something to say |
| `json` | the same as an object, with the names below |
| `common` | `127.0.0.1 - - [21/Nov/2026:01:02:03 +0000] "GET /path HTTP/1.1" 200 1234` |
| `combined` | the same, then `"REFERER" "USER-AGENT"` |
| `off` | none |

**Fields.** With `fields`, a line of text is `name=value` for each, with spaces between, and a line of JSON an object of
these. Unknown is `-`, or null.

**Sampling.** With `sample`, that share of the requests that went well gets a line. Whatever did not go well always has:
an error, a status of 500 or more, a retry, a failed attempt. Which ones are chosen follows from their request ids, so
all balancers that pass on an id choose the same requests.

**Escaping.** A request is one line, whatever bytes it was made of. In text, quotes, backslashes, control characters and
everything beyond ASCII are written as `\\"`, `\\\\` and `\\xNN`, spaces too where no quotes stand around. JSON has
bytes beyond ASCII as Latin-1 (`\\u00E9`), which is valid whatever they were and loses nothing.

**Rotation.** Move the file away and send SIGUSR1 to the supervisor: all workers open it anew, and no line is lost.

| field | |
|---|---|
"""


def render() -> str:
    """The whole page."""
    rows = [f"| `{name}` | {text} |\n" for name, text in FIELDS.items()]
    last = "| `header:NAME` | A header field of the request, the first of that name. |\n"
    return _INTRODUCTION + "".join(rows) + last


if __name__ == "__main__":
    sys.stdout.write(render())
