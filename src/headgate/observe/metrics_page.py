"""Prints docs/metrics.md from the table: `python -m headgate.observe.metrics_page > docs/metrics.md`.

A test holds the page to the table.
"""

from __future__ import annotations

import sys

from headgate.observe.metric import BOUNDS_NS, Metric
from headgate.observe.metrics import METRICS

_INTRODUCTION = """\
# Metrics

<!-- Made by `python -m headgate.observe.metrics_page` from src/headgate/observe/metrics.py. Change it there. -->

`GET /metrics` of the [admin API](admin-api.md) is a page for Prometheus: its text format, or OpenMetrics 1.0 where the
`Accept` field asks for that. It is made in the supervisor from memory that all workers share, and costs traffic
nothing. A thousand backends are some 25,000 lines.

```yaml
scrape_configs:
  - job_name: headgate
    authorization: {credentials_file: /etc/prometheus/headgate.token}
    static_configs: [{targets: ["127.0.0.1:9900"]}]
```

That takes an `admin.bind` at this address and its `admin.token`. Alert rules for these metrics stand in
[deploy/prometheus-alerts.yml](../deploy/prometheus-alerts.yml), a Grafana dashboard in
[deploy/grafana-dashboard.json](../deploy/grafana-dashboard.json).

- **Counters only grow**, over a worker's death, reloads, and upgrades whose shared memory fits the new version (else
  all begin at 0 together, as after a restart). A backend that is removed takes its series with it.
- **Labels** are bounded. `listener`, `route`, `pool` and `backend` are those of the configuration; a route is called by
  what it matches (`shop.example/api`, `*/` for everything). What found no room in shared memory (a thousand routes, or
  twice those of the start, whichever is more) counts as `(other)`. All other labels have a fixed set of values. A
  backend has 25 series.
- **Histograms**: the engine keeps 16 buckets to each doubling of the time from 1 µs to 71 minutes for pools (a value is
  known within 3.2 %), and 4 for routes, backends and the event loop (12.5 %). The page shows those that end at a power
  of two: {bounds}. So their counts are exact. The percentiles of `headgate top`, of the status page and of the
  dashboard are made of all buckets.
- **Agreement**: `requests_begun_total` = all `requests_total` + `requests_in_flight` + `requests_lost_total`, and the
  sums of `requests_total` (by outcome), `responses_total` (by class) and `listener_requests_total` are the same. Routes
  and pools have only the requests that reached one.

| metric | kind | labels | |
|---|---|---|---|
"""


def render() -> str:
    """The whole page."""
    first, last = BOUNDS_NS[0], BOUNDS_NS[-1]
    bounds = f"{first // 1000} µs, {2 * first // 1000} µs and so on to {last / 1e9:.1f} s"
    return _INTRODUCTION.replace("{bounds}", bounds) + "".join(_row(metric) for metric in METRICS)


def _row(metric: Metric) -> str:
    names = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.full_name}` | {metric.kind} | {names} | {metric.text} |\n"


if __name__ == "__main__":
    sys.stdout.write(render())
