"""Rounds of grading in the gradebook: which have ended, and in which one the code of each submission was graded.

They are two tables of the gradebook's database, next to nbgrader's own, so that they are kept and lost together with
the assignment's random ID, from which the seeds are derived (:mod:`autograder.gradebook.seeds`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Table, create_engine, func, insert, select
from sqlalchemy.exc import IntegrityError

from autograder.gradebook.seeds import Seeds, seed_of

_TABLES = MetaData()
_ENDED = Table(
    "amllab_ended_rounds",
    _TABLES,
    Column("assignment_id", String(32), primary_key=True),
    Column("round", Integer, primary_key=True, autoincrement=False),
)
_GRADED = Table(
    "amllab_graded_code",
    _TABLES,
    Column("assignment_id", String(32), primary_key=True),
    Column("code", String(64), primary_key=True),
    Column("round", Integer, nullable=False),
)


class Rounds:
    """The rounds of one assignment.

    Args:
        db_url: URL of the gradebook's database.
        secret: The assignment's random ID in the gradebook.

    Raises:
        SQLAlchemyError: The database cannot be read or written.

    Attributes:
        number: Number of the current round when this object was created; the first round is 1.
        seeds: The seeds of this and of earlier rounds.
    """

    def __init__(self, db_url: str, secret: str) -> None:
        self._secret, self._engine = secret, create_engine(db_url)
        _TABLES.create_all(self._engine)
        ended = select(func.max(_ENDED.c.round)).where(_ENDED.c.assignment_id == secret)
        graded = select(_GRADED.c.code, _GRADED.c.round).where(_GRADED.c.assignment_id == secret)
        with self._engine.connect() as connection:
            self.number = 1 + (connection.execute(ended).scalar() or 0)
            self._known = {row.code: row.round for row in connection.execute(graded)}
        earlier = {code: seed_of(secret, number) for code, number in self._known.items() if number != self.number}
        self.seeds = Seeds(seed_of(secret, self.number), earlier)

    def record(self, code: str) -> None:
        """Record in which round code was graded for the first time.

        Args:
            code: Digest from :func:`autograder.gradebook.seeds.code_of`.
        """
        if code not in self._known:
            self._insert(_GRADED, code=code, round=self.number)
            self._known[code] = self.number

    def end(self, seed: int | None = None) -> bool:
        """End the current round, and return whether it has ended now.

        Args:
            seed: End it only if it has this seed; by default, only if code was graded in it.
        """
        ends = self.number in self._known.values() if seed is None else seed == self.seeds.current
        if not ends:
            return False
        self._insert(_ENDED, round=self.number)
        return True

    def _insert(self, table: Table, **values: Any) -> None:
        """Insert a row, unless another process has done so in the meantime."""
        with suppress(IntegrityError), self._engine.begin() as connection:
            connection.execute(insert(table).values(assignment_id=self._secret, **values))

    def close(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()
