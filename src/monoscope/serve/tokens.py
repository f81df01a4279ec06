"""Who may enter, and who may write to the desk: tokens, compared in constant time, and the cookies given for them."""

import enum
import hashlib
import hmac
import secrets
from urllib.parse import parse_qs

from monoscope.core.errors import BadRequest
from monoscope.serve.refusing import Headers

COOKIE = "monoscope"
_FEWEST_CHARACTERS = 8


class Rank(enum.IntEnum):
    """How far somebody may go."""

    NOBODY = 0
    VISITOR = 1
    KEEPER = 2


class Keys:
    """The tokens of a server. Without `token` it is `open`, everybody is a visitor; without `admin_token` every visitor
    is a keeper.

    A cookie holds no token but a word drawn when the server starts, so it opens nothing after that, and tells nothing
    to other servers of this machine, to which a browser sends it as well.
    """

    def __init__(self, token: str | None, admin_token: str | None, *, port: int) -> None:
        self.open, self._one_rank = token is None, admin_token is None
        self._tokens = {
            rank: _digest(given.encode())
            for rank, given in ((Rank.VISITOR, token), (Rank.KEEPER, admin_token))
            if given is not None
        }
        self._sessions = {rank: secrets.token_urlsafe(32) for rank in self._tokens}
        # Cookies do not know ports: two servers of one machine would overwrite each other's.
        self._cookie = f"{COOKIE}-{port}"

    @property
    def any(self) -> bool:
        """Whether there is a token to ask for."""
        return bool(self._tokens)

    def rank(self, headers: Headers, *, cookies: bool = True) -> Rank:
        """What the headers of a request prove; nothing else of it is looked at."""
        proved = [Rank.VISITOR if self.open else Rank.NOBODY]
        proved += [self._of_token(candidate) for candidate in _bearers(headers)]
        if cookies:
            proved += [self._of_cookie(value) for value in headers.get("cookie", [])]
        best = max(proved)
        return Rank.KEEPER if best is Rank.VISITOR and self._one_rank else best

    def log_in(self, form: bytes) -> str | None:
        """The cookie for a form with a token, or None when it is no token of this server."""
        try:
            fields = parse_qs(form.decode("utf-8", "replace"), max_num_fields=4)
        except ValueError:
            return None
        rank = self._of_token((fields.get("token") or [""])[0].encode("utf-8", "replace"))
        if rank is Rank.NOBODY:
            return None
        return f"{self._cookie}={self._sessions[rank]}; HttpOnly; SameSite=Strict; Path=/"

    def _of_token(self, candidate: bytes) -> Rank:
        given = _digest(candidate)
        found = [rank for rank, known in self._tokens.items() if hmac.compare_digest(given, known)]
        return max(found, default=Rank.NOBODY)

    def _of_cookie(self, header: str) -> Rank:
        values = [value for name, _, value in (part.strip().partition("=") for part in header.split(";"))
                  if name == self._cookie]  # fmt: skip
        found = [
            rank
            for rank, known in self._sessions.items()
            for value in values
            if hmac.compare_digest(value.encode("latin-1"), known.encode())
        ]
        return max(found, default=Rank.NOBODY)


def check_tokens(token: str | None, admin_token: str | None) -> None:
    """Refuse tokens that are easily guessed.

    Raises
        BadRequest  one is shorter than 8 characters, or both are the same.
    """
    for name, given in (("token", token), ("admin token", admin_token)):
        if given is not None and len(given) < _FEWEST_CHARACTERS:
            raise BadRequest(
                f"The {name} is shorter than {_FEWEST_CHARACTERS} characters; use one such as 32 random letters."
            )
    if token is not None and token == admin_token:
        raise BadRequest("The admin token is the same as the token; give two, or leave the admin token out.")


def _digest(token: bytes) -> bytes:
    """Of equal length for all tokens, so that comparing tells nothing of theirs."""
    return hashlib.sha256(token).digest()


def _bearers(headers: Headers) -> list[bytes]:
    found = []
    for value in headers.get("authorization", []):
        scheme, _, token = value.partition(" ")
        if scheme.lower() == "bearer":
            # Only what HTTP calls space: others of Unicode may be bytes of a token.
            found.append(token.strip(" \t").encode("latin-1"))
    return found
