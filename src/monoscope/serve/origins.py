"""Other web sites: which of them may ask, and what a browser is told about it.

A page of any site can make a browser send requests to a port of this machine. What reads is harmless, as the browser
keeps the answer from the page; what changes something must come from our own pages, from a client that is no browser,
or from an origin on the list.
"""

import re
from collections.abc import Iterable

from monoscope.core.errors import BadRequest
from monoscope.serve.refusing import Headers, Refusal

_ORIGIN = re.compile(r"https?://(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(?::\d{1,5})?")
_METHODS = "GET, POST, PUT, DELETE"
# What clients of OpenAI's interface send from a browser, beside what every request may carry.
_HEADERS = frozenset({"authorization", "content-type", "accept", "openai-organization", "openai-project"})
_CLIENT_HEADERS = "x-stainless-"
_MOST_HEADERS = 40
_PREFLIGHT_SECONDS = "600"


def checked_origin(origin: str) -> str:
    """An origin as browsers write it.

    Raises
        BadRequest  it is none, or a pattern.
    """
    found = origin.strip().lower()
    if not _ORIGIN.fullmatch(found):
        raise BadRequest(f"{origin!r} is no origin; write scheme, name and port only, as https://lab.example:8888.")
    return found


class Origins:
    """The origins on the list; by default none."""

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(checked_origin(origin) for origin in allowed)

    def listed(self, headers: Headers) -> str | None:
        """The origin on the list that sent this, or None."""
        given = headers.get("origin", [])
        return given[0] if len(given) == 1 and given[0] in self._allowed else None

    def check(self, headers: Headers) -> None:
        """Refuse what another site sent. A client that is no browser sends neither header, and may write.

        Raises
            Refusal  403.
        """
        if self.listed(headers) is not None:
            return
        sites = headers.get("sec-fetch-site", [])
        if sites:
            foreign = any(site not in ("same-origin", "none") for site in sites)
        else:
            here = headers["host"][0].lower()
            foreign = any(origin.partition("://")[2].lower() != here for origin in headers.get("origin", []))
        if foreign:
            raise Refusal(403, "Requests that change something must come from this server's own pages.")

    def preflight(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """What a browser is told that asks for a page whether it may send a request.

        Raises
            Refusal  403, the page's origin is not on the list.
        """
        if self.listed(headers) is None:
            raise Refusal(
                403, "Pages of that origin may not ask here; start the server with --allow-origin to let them."
            )
        asked = ",".join(headers.get("access-control-request-headers", [])).lower().split(",")
        names = [name.strip() for name in asked[:_MOST_HEADERS]]
        allowed = [name for name in names if name in _HEADERS or re.fullmatch(_CLIENT_HEADERS + "[a-z-]{1,40}", name)]
        return [
            (b"access-control-allow-methods", _METHODS.encode()),
            (b"access-control-allow-headers", ", ".join(allowed).encode()),
            (b"access-control-max-age", _PREFLIGHT_SECONDS.encode()),
        ]

    def permission(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        """The headers on every answer to an origin on the list. Never with credentials: cookies prove nothing there."""
        origin = self.listed(headers)
        if origin is None:
            return []
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", b"retry-after"),
            (b"vary", b"origin"),
        ]


def is_preflight(method: str, headers: Headers) -> bool:
    """Whether a browser asks on behalf of a page."""
    return method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers
