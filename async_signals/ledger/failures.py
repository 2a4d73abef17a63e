"""What is recorded of a failed attempt, and what makes two failures one and the same; pure."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

from .chains import members_of
from .messages import cut, cut_middle, is_of_database, message_of, path_of
from .places import places_of
from .shapes import shape_of
from .tracebacks import frames_of, traceback_of

if TYPE_CHECKING:
    from .masking import Mask

__all__ = ["Failure", "death_of", "failure_of"]

#: Characters of a message and of a traceback that are kept.
_MAX_MESSAGE, _MAX_TRACEBACK = 2_000, 20_000

#: Levels of groups in groups that are compared.
_MAX_LEVELS = 5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failed attempt, as it is recorded: masked, bounded, without any local variable."""

    exception: str  #: Import path of the error's class, at most 255 characters.
    message: str  #: At most 2,000 characters.
    own_frames: str  #: Where it passed the site's own code, with the source; innermost last.
    traceback: str  #: At most 20,000 characters, cut in the middle; with causes and members.
    fingerprint: str  #: Equal for equal failures: 32 hexadecimal digits.


def failure_of(exc: BaseException, mask: Mask, *, receiver: str = "") -> Failure:
    """
    Return what is recorded of *exc*; never raises for what an error is or says.

    Args:
        exc: What the receiver raised, with its traceback.
        mask: What is secret in the delivery; see ``mask_for()``.
        receiver: Name of the delivery's; tells apart what has no place in the site's code.
    """
    of_database = is_of_database(exc)
    message = message_of(exc, mask, of_database=of_database)
    own_frames = frames_of(exc, mask)
    traits = _traits(exc, mask, of_database=of_database, level=0)
    if not own_frames:
        traits.append(receiver)
    return Failure(
        exception=path_of(type(exc)),
        message=cut(message, _MAX_MESSAGE),
        own_frames=cut_middle(own_frames, _MAX_TRACEBACK),
        traceback=cut_middle(traceback_of(exc, mask, of_database=of_database), _MAX_TRACEBACK),
        fingerprint=_digest(traits),
    )


def death_of(receiver: str) -> Failure:
    """Return what is recorded where the worker died that ran *receiver*: there is no error."""
    return Failure(
        exception="",
        message="Its worker died.",
        own_frames="",
        traceback="",
        fingerprint=_digest(["", "Its worker died.", receiver]),
    )


def _traits(exc: BaseException, mask: Mask, *, of_database: bool, level: int) -> list[str]:
    """Return what equal failures have in common: type, words, places; members in any order."""
    members = members_of(exc) if level < _MAX_LEVELS else ()
    traits = {
        _digest(_traits(each, mask, of_database=of_database, level=level + 1)) for each in members
    }
    said = message_of(exc, mask, of_database=of_database)
    # Where the stack ends, and how Python says so, is chance.
    shape = "" if isinstance(exc, RecursionError) else shape_of(said)
    return [path_of(type(exc)), shape, *places_of(exc), *sorted(traits)]


def _digest(traits: list[str]) -> str:
    return hashlib.sha256("\0".join(traits).encode("utf-8", "replace")).hexdigest()[:32]
