"""The list of routes at ``/docs``, which loads nothing from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

__all__ = ["api_page"]

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"><h1>{title}</h1>
<p>For programs: <a href="/openapi.json">openapi.json</a>. Errors are JSON: <code>{{"error": "..."}}</code>.
<table><thead><tr><th>request<th>parameters<th>what it does</thead><tbody>{rows}</tbody></table></html>"""


def api_page(schema: dict[str, Any]) -> str:
    """Return an HTML page with the routes of an OpenAPI description."""
    rows = []
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            names = [parameter["name"] for parameter in route.get("parameters", ())]
            names += ["body"] if "requestBody" in route else []
            cells = (f"{method.upper()} {path}", ", ".join(names), route.get("description", ""))
            rows.append("<tr>" + "".join(f"<td>{escape(cell)}" for cell in cells))
    return _PAGE.format(title=escape(schema["info"]["title"]), rows="".join(rows))
