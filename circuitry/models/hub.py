"""What is known about a name before the Hugging Face Hub's client is asked for files, which tries again for minutes without a network."""

from __future__ import annotations

from ..architecture.definitions import REFUSED, definition_for, model_types
from ..content import BUNDLED, names
from ..errors import ModelError

SECONDS = 5.0
"""How long the Hub has to answer the one question that is asked before anything is downloaded."""
OFFLINE = "HF_HUB_OFFLINE is set"
"""What ``unreachable`` says if the user wants nothing to be downloaded."""
OWNERLESS = ("gpt2", "openai-gpt")
"""Types of model that are also models on the Hub, from before a name there needed an owner."""


def unreachable(name: str, revision: str | None = None, kind: str = "model") -> str:
    """Why nothing can be downloaded of a model, or of another ``kind`` ("dataset"); empty if the Hub answers, whatever it says.

    It is asked once, through the session of its client, which has the user's proxies and certificates. The client itself would
    try six times for every file, and its settings hold for a whole process, so they are left alone.

    >>> import huggingface_hub.constants as hub
    >>> before, hub.HF_HUB_OFFLINE = hub.HF_HUB_OFFLINE, True
    >>> unreachable("owner/name")
    'HF_HUB_OFFLINE is set'
    >>> hub.HF_HUB_OFFLINE = before
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # documented, but not in its __all__

    if hub.constants.HF_HUB_OFFLINE:
        return OFFLINE
    endpoint = hub.constants.ENDPOINT
    file = "config.json" if kind == "model" else "README.md"
    try:
        url = hub.hf_hub_url(name, file, repo_type=kind, revision=revision, endpoint=endpoint)
    except HFValidationError:
        return ""  # the client says what is wrong with the name
    try:
        status = hub.get_session().head(url, headers=build_hf_headers(), timeout=SECONDS, follow_redirects=False).status_code
    except Exception as error:  # the client's library of HTTP is not the same in all its versions
        reason = " ".join(str(error).split()) or type(error).__name__
        return f"{endpoint} could not be reached within {SECONDS:g} s ({reason})"
    return f"{endpoint} answers with error {status}" if status >= 500 else ""


def cache() -> str:
    """The folder in which the Hub's client keeps what it downloaded.

    >>> cache().endswith("hub")
    True
    """
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE)


def check_not_a_kind(name: str) -> None:
    """Refuse the short name of a model that ships with circuitry, or of a type of model: the Hub has no model of that name.

    Raises ModelError that says what to write instead.

    >>> check_not_a_kind("gated_delta")
    Traceback (most recent call last):
    circuitry.errors.ModelError: the Hugging Face Hub has no model 'gated_delta'; did you mean bundled:gated_delta or compiled:gated_delta?
    """
    from ..compiled import NAMES

    if name in OWNERLESS:
        return
    shipped = [f"bundled:{name}"] * (BUNDLED / name / "config.json").is_file() + [f"compiled:{name}"] * (name in NAMES)
    if shipped:
        raise ModelError(f"the Hugging Face Hub has no model {name!r}; did you mean {' or '.join(shipped)}?")
    if name in REFUSED:
        definition_for(name)
    if name in model_types() or name in names("graphs"):
        raise ModelError(
            f"{name!r} is a type of model, not a model; give a model of that type, as OWNER/NAME on the Hugging Face Hub or as a folder "
            f"(circuitry graph {name} lists the nodes of the type)"
        )
