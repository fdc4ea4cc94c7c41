"""A scorer that is a model of this machine."""

from __future__ import annotations

import pytest

from circuitry.errors import CircuitryError
from circuitry.features.dashboard.local import LocalScorer
from circuitry.features.dashboard.question import COMPLEXITY, Question, Rubric
from circuitry.features.dashboard.scorer import scorer
from support.features_known import CONTEXT


def test_judges_by_name() -> None:
    assert scorer("proxy").name == "proxy from activations"
    for wrong in ("gpt", "proxy:x", "local:", "endpoint"):
        with pytest.raises(CircuitryError, match=r"expected a scorer \(.*endpoint:MODEL\), got "):
            scorer(wrong)


@pytest.fixture(scope="module")
def local() -> LocalScorer:
    return LocalScorer("bundled:mamba")


def test_a_local_judge_takes_the_most_probable_level(local: LocalScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    question = Question(COMPLEXITY, [CONTEXT])
    found = local.probabilities(question)
    assert local.score(question) == max(found, key=lambda level: found[level])
    assert sum(found.values()) == pytest.approx(1) and min(found.values()) > 0 and len(set(found.values())) == 5
    words = local.model.vocabulary
    [token] = words.encode("4")
    import torch

    ids = torch.tensor([[words.begin, *words.encode(f"{question.text}\nAnswer:")]])
    one, four = (local.model.hf(ids).logits[0, -1].softmax(-1)[words.encode(n)[0]].item() for n in ("1", "4"))
    assert found[4] / found[1] == pytest.approx(four / one, rel=1e-3)
    head = local.model.hf.get_output_embeddings()
    before = head.weight.detach().clone()
    with torch.no_grad():
        state = local.model.hf(ids, output_hidden_states=True).hidden_states[-1][0, -1]
        head.weight[token] += 100 * torch.sign(state)
    try:
        assert local.score(question) == 4
    finally:
        with torch.no_grad():
            head.weight.copy_(before)


def test_a_local_judges_key_is_of_its_weights(local: LocalScorer) -> None:
    assert local.name == "bundled:mamba" and local.model.fingerprint in local.key and not local.proxy


def test_a_local_judge_says_what_it_cannot_read(local: LocalScorer) -> None:
    many = Rubric("many", "", dict.fromkeys(range(9, 13), ""))
    with pytest.raises(CircuitryError, match=r"not every one of 9, 10, 11, 12 is a single token of bundled:mamba"):
        local.score(Question(many, [CONTEXT]))
    with pytest.raises(CircuitryError, match="fewer or shorter contexts"):
        LocalScorer("bundled:gpt_neox").score(Question(COMPLEXITY, [CONTEXT] * 100))
    with pytest.raises(CircuitryError, match="has no tokenizer"):
        LocalScorer("compiled:mamba")


def test_a_local_judge_chats_where_the_tokenizer_has_a_template(local: LocalScorer) -> None:
    tokenizer = local.model.tokenizer
    tokenizer.chat_template = "<{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    try:
        ids = local._prompt("How many?")
    finally:
        tokenizer.chat_template = None
    assert tokenizer.decode(ids) == "<How many?>"
