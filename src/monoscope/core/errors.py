"""Every refusal of monoscope, in one tree.

    MonoscopeError
    ├── BadRequest            what was asked makes no sense (exit 2)
    │   ├── BadEdit           an edit's text cannot be read
    │   └── BadSource         a model or text source string cannot be read
    ├── NotFound              what was asked for is not there
    │   ├── SourceNotFound    a model, text, wheel or file
    │   ├── SiteNotFound      a place in a model
    │   ├── ArtifactNotFound  a part of a run
    │   └── FeatureNotFound   a feature id outside its dictionary
    ├── Ambiguous             several things fit and none is guessed
    ├── RequestDiffers        the same name was made with other settings
    ├── Damaged               a file is there but not whole, or not what its digest says
    ├── EmptyText             a source gave no usable text
    ├── BadNumbers            NaN, infinity or no variance where numbers must be sound
    ├── DiskFull              no space was left while writing
    ├── Busy                  another process holds what is wanted
    └── Unavailable           an optional library or a service is missing

A message is one sentence or two: what was wrong, where, and what to do. Only the command line turns a class into an
exit status.
"""


class MonoscopeError(Exception):
    """The root; raised only through its children."""

    exit_status = 1


class BadRequest(MonoscopeError):
    """What was asked makes no sense, whatever is on disk."""

    exit_status = 2


class BadEdit(BadRequest):
    """The text of an edit does not follow the grammar."""


class BadSource(BadRequest):
    """The string that names a model or a text does not follow the grammar."""


class NotFound(MonoscopeError):
    """Something that was named is not there."""


class SourceNotFound(NotFound):
    """A model, a text, a wheel or a file cannot be found or reached."""


class SiteNotFound(NotFound):
    """The model has no such place."""


class ArtifactNotFound(NotFound):
    """A part of a run does not exist yet."""


class FeatureNotFound(NotFound):
    """The dictionary has no feature with this number."""


class Ambiguous(MonoscopeError):
    """Several things fit a name; monoscope never guesses."""


class RequestDiffers(MonoscopeError):
    """The artefact exists and was made with other settings."""


class Damaged(MonoscopeError):
    """A file is truncated, altered or of an unknown version."""


class EmptyText(MonoscopeError):
    """A text source gave no usable token."""


class BadNumbers(MonoscopeError):
    """NaN, infinity or zero variance where numbers must be sound."""


class DiskFull(MonoscopeError):
    """The disk had no room while something was being written."""


class Busy(MonoscopeError):
    """Another process holds the run, or the server is full."""


class Unavailable(MonoscopeError):
    """An optional library, or a service outside, is missing."""
