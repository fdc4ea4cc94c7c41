"""The roles of heads in IOI, the stages in which they act on each other, and the heads found for each role (Wang et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass, field

from .heads import Head, Sender

POSITIONS = ["IO", "IO+1", "S1", "S1+1", "S2", "S2+1", "END-2", "END-1", "END"]
MOVER, SUPPRESSOR, HELPER, NEGATIVE = "name mover", "S suppressor", "other helping head", "negative name mover"
DIRECT = (MOVER, SUPPRESSOR, HELPER)
WRITER = "writes the answering heads' v"
INHIBITION, DUPLICATE, INDUCTION, PREVIOUS = "S-inhibition head", "duplicate-token head", "induction head", "previous-token head"
OTHER = "writes the S-inhibition heads' v"
AT_END = "all heads at END"


@dataclass(frozen=True)
class Stage:
    """Senders act on a ``port`` of receivers at a ``position`` ("": all); ``called`` is the receivers' name in the picture."""

    receivers: tuple[str, ...]
    called: str
    port: str
    position: str
    senders: tuple[str, ...]

    @property
    def title(self) -> str:
        """The name of its hub in the picture.

        >>> STAGES[0].title
        'q of answering heads'
        """
        return f"{self.port} of {self.called}"


STAGES = (
    Stage(DIRECT, "answering heads", "q", "END", (INHIBITION,)),
    Stage(DIRECT, "answering heads", "v", "", (WRITER,)),
    Stage((INHIBITION,), "S-inhibition", "v", "S2", (DUPLICATE, INDUCTION, OTHER)),
    Stage((INDUCTION,), "induction", "k", "S1+1", (PREVIOUS,)),
)

TABLES = {
    WRITER: "senders_v",
    INHIBITION: "senders_q",
    DUPLICATE: "senders_inhibition_v",
    INDUCTION: "senders_inhibition_v",
    OTHER: "senders_inhibition_v",
    PREVIOUS: "senders_k",
}
"""The table in which heads of a role are found; other roles are found in the table of heads to the logits."""


@dataclass
class Found:
    """Heads by role, each with the position at which it acts and its normalized effect."""

    roles: dict[str, list[Sender]] = field(default_factory=dict)

    def heads(self, *roles: str) -> list[Head]:
        """The heads of these roles, each once.

        >>> Found({"name mover": [((9, 9), "END", 0.5)]}).heads("name mover", "induction head")
        [(9, 9)]
        """
        return list(dict.fromkeys(head for head, _, _ in self.of(*roles)))

    def of(self, *roles: str) -> list[Sender]:
        """The heads of these roles with position and effect; a head that has several of the roles occurs once for each.

        >>> Found({"name mover": [((9, 9), "END", 0.5)]}).of("induction head", "name mover")
        [((9, 9), 'END', 0.5)]
        """
        return [sender for role in roles for sender in self.roles.get(role, [])]

    def once(self) -> dict[str, list[Head]]:
        """Heads by role; a head with several roles is listed only in the first.

        >>> Found({"name mover": [((9, 9), "END", 0.5)], "induction head": [((9, 9), "S2", 0.1)]}).once()
        {'name mover': [(9, 9)]}
        """
        seen: set[Head] = set()
        heads_by_role: dict[str, list[Head]] = {}
        for role in self.roles:
            new = [head for head in self.heads(role) if head not in seen]
            seen |= set(new)
            heads_by_role |= {role: new} if new else {}
        return heads_by_role
