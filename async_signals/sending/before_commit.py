"""
Something to be done right before a transaction commits, for which Django has no hook.

Whatever ends a transaction is a method of its connection: these are shadowed on the one
connection, from the first durable event of a transaction to its end. Nothing of it remembers
what is to be done: what still lives stands in Django's own list of ``on_commit`` callbacks, of
which it knows the place where the last one was.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..callbacks import Place

__all__ = ["End", "before_commit", "end_of", "may_wait"]

#: What ends a transaction. The last only where nothing else has: an interrupt came between the
#: block and its commit, and some drivers would commit now.
_ENDS = ("commit", "rollback", "close", "set_autocommit")
#: What undoes a part of it. Django forgets the callbacks of its own blocks only.
_UNDO = "savepoint_rollback"
#: What would give the numbers of its savepoints once more.
_COUNT_ANEW = "clean_savepoints"
_SHADOWED = (*_ENDS, _UNDO, _COUNT_ANEW)


def end_of(connection: BaseDatabaseWrapper) -> End | None:
    """Return what stands for the commit since ``before_commit()``; None: it is not to come."""
    own = vars(connection)
    end = own.get("commit")
    if type(end) is not End or _UNDO not in own:  # Somebody has put it back after its time.
        return None
    return end if connection.in_atomic_block and not connection.needs_rollback else None


def may_wait(connection: BaseDatabaseWrapper) -> bool:
    """
    Whether Django itself is going to commit this transaction, in a way that can be shadowed.

    Not in autocommit, nor where the site commits by hand; not inside of Django's ``TestCase``,
    which never commits; not where the transaction is to be rolled back; and not where somebody
    else has put a method of his own in the place of one of Django's.
    """
    blocks: list[Any] = connection.atomic_blocks
    return end_of(connection) is not None or (
        connection.in_atomic_block
        and connection.commit_on_exit
        and not connection.needs_rollback
        and bool(blocks)
        and not blocks[0]._from_testcase
        and not _is_of_somebody_else(connection)
    )


def before_commit(
    connection: BaseDatabaseWrapper,
    write: Callable[[BaseDatabaseWrapper], None],
    undo: Callable[[BaseDatabaseWrapper, int], None],
) -> None:
    """
    Let *write* be called with *connection* right before its transaction commits.

    What it raises rolls the transaction back and is raised where the block ends. A rollback and
    a close take it away, as does the commit.

    Args:
        connection: One for which ``may_wait()``.
        write: The same function for the whole of a transaction.
        undo: Called where a savepoint is rolled back to, with what ``savepoint_state`` was when
            it was made.
    """
    if "commit" not in vars(connection):
        for name in _ENDS:
            setattr(connection, name, End(connection, name, write))
        setattr(connection, _UNDO, _Undo(connection, undo))
        setattr(connection, _COUNT_ANEW, _GoOn())


#: How Django names savepoints: by thread and number.
_SAVEPOINT = re.compile(r"s\d+_x(\d+)")


class End:
    """Stands for one method of a connection until its transaction ends."""

    __slots__ = ("_connection", "_name", "_write", "place")

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        name: str,
        write: Callable[[BaseDatabaseWrapper], None],
    ) -> None:
        self._connection = connection
        self._name = name
        self._write = write
        #: That of the callback with which the last of what is to be done waits.
        self.place: Place | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Do what is to be done, if it is the commit, and then what the method does."""
        connection, name = self._connection, self._name
        method = getattr(type(connection), name)
        if connection.in_atomic_block and name != "close":
            return method(connection, *args, **kwargs)  # Django refuses it.
        try:
            if name == "commit":
                self._write(connection)
            elif name == "set_autocommit":
                _roll_back(connection)
        except BaseException:
            # Django rolls back for errors of the database only, and then turns on autocommit,
            # which on some databases commits.
            _roll_back(connection)
            raise
        finally:
            for each in _SHADOWED:
                if isinstance(vars(connection).get(each), (End, _Undo, _GoOn)):
                    delattr(connection, each)
        return method(connection, *args, **kwargs)


class _Undo:
    """Stands for ``savepoint_rollback()`` meanwhile."""

    __slots__ = ("_connection", "_undo")

    def __init__(
        self, connection: BaseDatabaseWrapper, undo: Callable[[BaseDatabaseWrapper, int], None]
    ) -> None:
        self._connection = connection
        self._undo = undo

    def __call__(self, sid: str) -> None:
        connection = self._connection
        type(connection).savepoint_rollback(connection, sid)
        # One that somebody has named in SQL: as for Django's own callbacks, nobody knows its time.
        if made := _SAVEPOINT.fullmatch(sid):
            number = int(made[1])
            # Counted anew since it was made, and before the first event: all came after it.
            self._undo(connection, number if number <= connection.savepoint_state else 0)


class _GoOn:
    """Stands for ``clean_savepoints()`` meanwhile: numbers tell what is undone, and go on."""

    __slots__ = ()

    def __call__(self) -> None:
        """Do nothing, which nobody sees but in the names of savepoints."""


def _roll_back(connection: BaseDatabaseWrapper) -> None:
    try:
        type(connection).rollback(connection)
    except Error:
        with contextlib.suppress(Error):
            type(connection).close(connection)


def _is_of_somebody_else(connection: BaseDatabaseWrapper) -> bool:
    own, kind, base = vars(connection), type(connection), BaseDatabaseWrapper
    return (
        kind.commit is not base.commit
        or kind.savepoint is not base.savepoint
        or kind.savepoint_rollback is not base.savepoint_rollback
        or any(name in own for name in _SHADOWED)
    )
