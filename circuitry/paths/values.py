"""The path language as values: frozen, comparable, hashable. Text and Python operators build the same ones.

    text      ssm_state[17] @ B+1 -> logits freezing ssm_state
    Python    ssm_state[17] @ B+1 >> logits, then .freezing(ssm_state)

``@`` binds tighter than ``+`` and ``+`` tighter than ``>>``, so a site that knows ``+ int`` makes the two read alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeAlias

from ..errors import CircuitryError, UnknownNameError, expected
from ..html.shown import Shown
from .positions import Axis, Index, Position, check_index
from .scanner import WORDS, Scanner
from .terms import LATENT, TERMS, Term

if TYPE_CHECKING:
    from markupsafe import Markup

PositionLike: TypeAlias = Position | str | int | Axis


def position(value: PositionLike) -> Position:
    """Make a position from a name, a number, an axis or a position; ``"B+1"`` may carry its offset.

    >>> position("B+1") == Position("B", 1)
    True
    """
    if isinstance(value, str):
        return placed(*Scanner(value).whole(Scanner.place))
    if isinstance(value, bool) or not isinstance(value, int | Position | Axis):
        raise CircuitryError(expected("a position (a name the task knows, a whole number or axis('name'))", value))
    return Position(0) + value if isinstance(value, int) else value if isinstance(value, Position) else Position(value)


def placed(kind: str, base: str | int, offset: int) -> Position:
    """The position that a text names (``Scanner.place``).

    >>> placed("axis", "pos", 1)
    {pos}+1
    """
    return Position(Axis(str(base)) if kind == "axis" else base, offset)


class _Operators(Shown):
    """What a node and a site have in common: ``>>`` to a target, and refusals that explain themselves."""

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_text

        return of_text(self)

    def _site(self) -> Site:
        raise NotImplementedError

    def __rshift__(self, target: SitesLike) -> Path:
        return Path(sites(self._site()), (Leg(sites(target)),))

    def __rrshift__(self, source: SitesLike) -> Path:
        return Path(sites(source), (Leg(sites(self._site())),))

    def __gt__(self, _: object) -> NoReturn:
        raise CircuitryError(f"write {self} >> target (two arrows); '>' compares")


@dataclass(frozen=True)
class Node(_Operators):
    """A node of an architecture's graph: family, indices (layer, head ...), perhaps one of its ports, perhaps a term of its value.

    Indices, ports and terms are added the way text writes them:

    >>> str(Node("head")[9, Axis("head")].q), str(Node("resid")[2].latent[17])
    ('head[9,{head}].q', 'resid[2].latent[17]')
    """

    family: str
    indices: tuple[Index, ...] = ()
    port: str | None = None
    term: Term | None = None

    __iter__: ClassVar[None] = None
    """No sequence: with ``__getitem__`` alone, Python would iterate over a node forever."""

    def __getitem__(self, indices: Index | tuple[Index, ...]) -> Node:
        chosen = indices if isinstance(indices, tuple) else (indices,)
        if self.term is not None:
            if self.term.name != LATENT or len(chosen) != 1 or self.term.index is not None:
                raise CircuitryError(
                    f"{self.term.name!r} has {'one index' if self.term.name == LATENT else 'no index'}, got {indices}"
                )
            return replace(self, term=replace(self.term, index=check_index(chosen[0], LATENT, LATENT)))
        for index in chosen:
            check_index(index, self.family, "layer")
        return replace(self, indices=chosen)

    def __getattr__(self, name: str) -> Node:
        if name.startswith("_"):  # pickle, copy and notebooks look for such methods, and must not find a port
            raise AttributeError(name)
        if self.term is not None:
            raise UnknownNameError(f"{self} is a part of a value and has no {name!r}; a port comes before it: {self.host}.{name}")
        return replace(self, term=Term(name)) if name in TERMS else replace(self, port=name)

    def __str__(self) -> str:
        indices = f"[{','.join(map(str, self.indices))}]" if self.indices else ""
        return ".".join(
            [f"{self.family}{indices}", *([self.port] if self.port else []), *([str(self.term)] if self.term else [])]
        )

    def __repr__(self) -> str:
        return str(self)

    @property
    def host(self) -> Node:
        """The node whose value has this term; a node without a term is its own host.

        >>> str(Node("resid")[2].latent[17].host)
        'resid[2]'
        """
        return self if self.term is None else replace(self, term=None)

    def _site(self) -> Site:
        return Site(self)

    def __matmul__(self, at: PositionLike) -> Site:
        return Site(self, position(at))

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the open indices, in order.

        >>> Node("head", (9, Axis("head"))).axes
        ('head',)
        """
        every = (*self.indices, *([self.term.index] if self.term else []))
        return tuple(i.name for i in every if isinstance(i, Axis))


@dataclass(frozen=True)
class Site(_Operators):
    """A node at a position; with none, at every position (the logits: at the task's answer).

    >>> str(Node("ssm_state", (17,)) @ "B" + 1)
    'ssm_state[17] @ B+1'
    """

    node: Node
    at: Position | None = None

    def __str__(self) -> str:
        return f"{self.node} @ {self.at}" if self.at is not None else f"{self.node}"

    def __repr__(self) -> str:
        return str(self)

    def _site(self) -> Site:
        return self

    def __add__(self, offset: int) -> Site:
        return replace(self, at=self._place() + offset)

    def __sub__(self, offset: int) -> Site:
        return replace(self, at=self._place() - offset)

    def _place(self) -> Position:
        if self.at is None:
            raise CircuitryError(f"{self.node} has no position to move; write {self.node} @ 'B' + 1")
        return self.at

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the open indices and of an open position, in order.

        >>> (Node("mlp", (Axis("layer"),)) @ Axis("pos")).axes
        ('layer', 'pos')
        """
        base = self.at.base if self.at is not None else None
        return self.node.axes + ((base.name,) if isinstance(base, Axis) else ())


SitesLike: TypeAlias = Node | Site | tuple[Node | Site, ...]


def sites(value: SitesLike) -> tuple[Site, ...]:
    """Make a tuple of sites from a node, a site or a tuple of these.

    >>> [str(s) for s in sites((Node("mlp", (0,)), Node("logits")))]
    ['mlp[0]', 'logits']
    """
    members = value if isinstance(value, tuple) else (value,)
    for member in members:
        if not isinstance(member, Node | Site):
            raise CircuitryError(expected("a node such as g.logits, or a site (node @ position)", member))
    if not members:
        raise CircuitryError("an empty set of sites; name at least one node")
    return tuple(m if isinstance(m, Site) else Site(m) for m in members)


@dataclass(frozen=True)
class Leg(Shown):
    """One arrow: what is read, what is frozen at its base value meanwhile, and what is exempt (see ``Path.freezing``).

    ``directly`` freezes every node between that adds to the residual stream, so that only the stream itself connects the ends.
    """

    targets: tuple[Site, ...]
    frozen: tuple[Node, ...] = ()
    exempt: tuple[Node, ...] = ()
    directly: bool = False

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_text

        return of_text(self)

    def __str__(self) -> str:
        words = [f"-> {_sites_text(self.targets)}"]
        if self.directly:
            words.append("directly")
        if self.frozen:
            words.append(f"freezing {', '.join(map(str, self.frozen))}")
        if self.exempt:
            words.append(f"except {', '.join(map(str, self.exempt))}")
        return " ".join(words)

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Path(Shown):
    """A whole path: the sites where the corrupted value enters, and the legs along which its effect is followed.

    >>> h = Node("ssm_state")
    >>> print((Node("ssm_state", (17,)) @ "B" + 1 >> Node("logits")).freezing(h))
    ssm_state[17] @ B+1 -> logits freezing ssm_state
    """

    sources: tuple[Site, ...]
    legs: tuple[Leg, ...]

    def _shown_(self) -> Iterable[Markup]:
        from .notebook import of_path

        return of_path(self)

    def __str__(self) -> str:
        return " ".join([_sites_text(self.sources), *map(str, self.legs)])

    def __repr__(self) -> str:
        return str(self)

    def __rshift__(self, target: SitesLike) -> Path:
        """Add a leg; the nodes just read become its source."""
        return replace(self, legs=(*self.legs, Leg(sites(target))))

    def freezing(self, *nodes: Node) -> Path:
        """Freeze these nodes at their base values on the last leg.

        A name without a port means all others: the leg's own two ends stay live (``freezing head`` from ``head[1,0].q``). A named
        port is frozen on the ends too, unless it is an end itself. So ``head[1,0].pattern`` cuts a path from ``head[1,0].q``, and
        leaves a path into ``head[1,0]`` only what comes through the values.

        >>> print((Node("embed") >> Node("logits")).freezing(Node("head"), Node("mlp")))
        embed -> logits freezing head, mlp
        """
        return self._last(frozen=self.legs[-1].frozen + _nodes("freezing", nodes))

    def except_for(self, *nodes: Node) -> Path:
        """Leave these nodes live although ``freezing`` names them: ``except`` in text.

        >>> print((Node("embed") >> Node("logits")).freezing(Node("mlp")).except_for(Node("mlp", (0,))))
        embed -> logits freezing mlp except mlp[0]
        """
        if not self.legs[-1].frozen and not self.legs[-1].directly:
            raise CircuitryError("nothing is frozen on this leg yet, so nothing can be exempted; call .freezing(...) first")
        return self._last(exempt=self.legs[-1].exempt + _nodes("except_for", nodes))

    def directly(self) -> Path:
        """Freeze all nodes between the two ends of the last leg that add to the residual stream: only the stream itself connects them.

        >>> print((Node("embed") >> Node("logits")).directly())
        embed -> logits directly
        """
        return self._last(directly=True)

    def _last(self, **changes: Any) -> Path:
        return replace(self, legs=(*self.legs[:-1], replace(self.legs[-1], **changes)))

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the open axes, in order of first appearance: the axes of the result table.

        >>> (Node("mlp", (Axis("layer"),)) >> Node("logits")).axes
        ('layer',)
        """
        names = [name for site in self.sources for name in site.axes]
        for leg in self.legs:
            names += [name for site in leg.targets for name in site.axes]
            names += [name for node in (*leg.frozen, *leg.exempt) for name in node.axes]
        return tuple(dict.fromkeys(names))


def axis(name: str) -> Axis:
    """An open axis for Python path specs: ``g.head[9, axis("head")]``.

    >>> axis("layer")
    {layer}
    """
    if not isinstance(name, str) or not name.isidentifier() or not name.isascii() or name in WORDS:
        raise CircuitryError(expected("the name of an axis, a plain word such as 'layer'", name))
    return Axis(name)


def _nodes(verb: str, values: tuple[Node, ...]) -> tuple[Node, ...]:
    for value in values:
        if isinstance(value, Site):
            raise CircuitryError(f"{verb} applies to a node at all positions; write {value.node} without '@ {value.at}'")
        if not isinstance(value, Node):
            raise CircuitryError(expected("a node", value, f"try {verb}(g.head)"))
    return values


def _sites_text(members: tuple[Site, ...]) -> str:
    return str(members[0]) if len(members) == 1 else f"({', '.join(map(str, members))})"
