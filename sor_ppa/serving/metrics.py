"""Counts of the server as Prometheus text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

__all__ = ["RequestCounts"]


class RequestCounts:
    """Numbers and times of requests by route."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.seconds: Counter[str] = Counter()

    def add(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests[route, status] += 1
        self.seconds[route] += seconds  # type: ignore[assignment]

    def text(self, values: Mapping[str, float]) -> str:
        """Return all counts and further values by name, in Prometheus' text format."""
        lines = ["# TYPE sor_ppa_requests_total counter"]
        for (route, status), number in sorted(self.requests.items()):
            lines.append(f'sor_ppa_requests_total{{route="{route}",status="{status}"}} {number}')
        lines.append("# TYPE sor_ppa_request_seconds_total counter")
        lines += [
            f'sor_ppa_request_seconds_total{{route="{r}"}} {s:.6f}' for r, s in sorted(self.seconds.items())
        ]
        for name, value in values.items():
            lines += [f"# TYPE sor_ppa_{name} {'counter' if name.endswith('_total') else 'gauge'}"]
            lines += [f"sor_ppa_{name} {value:g}"]
        return "\n".join(lines) + "\n"
