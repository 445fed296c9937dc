"""Workloads that have a name, so that results of different people and machines are of one and the same work.

A name stands for a model and two lengths. Engines, threads and devices are the machine's own. It knows nothing of how
anything is measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from phiplug.errors import InvalidParameter


@dataclass(frozen=True, slots=True)
class NamedWorkload:
    """One work for all machines.

    Attributes:
        name: under which it is known, or None for what the user chose.
        model: what names the weights, or None for any that the user names.
        prompt_tokens: how long the prompt is.
        gen_tokens: how many tokens are generated after it.
    """

    name: str | None
    model: str | None
    prompt_tokens: int = 512
    gen_tokens: int = 128


WORKLOADS = {
    str(each.name): each
    for each in (
        NamedWorkload("chat-small", "smollm2", prompt_tokens=128, gen_tokens=64),
        NamedWorkload("phi-3-mini", "phi-3-mini"),
        NamedWorkload("llama-bench", None),  # its pp512, and its tg128 @ d512
    )
}


def workload(
    name: str | None, *, model: str | None = None, prompt_tokens: int | None = None, gen_tokens: int | None = None
) -> NamedWorkload:
    """Return the workload of a name, or of no name; the other arguments are what the user gave.

    Raises:
        InvalidParameter: there is none of that name, or the user gave a model or a length that is not its own.
    """
    if name is None:
        usual = NamedWorkload(None, model)
        return NamedWorkload(None, model, prompt_tokens or usual.prompt_tokens, gen_tokens or usual.gen_tokens)
    found = WORKLOADS.get(name)
    if found is None:
        raise InvalidParameter("workload", f"none is called {name!r}", hint=f"there are {', '.join(WORKLOADS)}")
    given = {"model": model, "prompt_tokens": prompt_tokens, "gen_tokens": gen_tokens}
    for what, said in given.items():
        wanted = getattr(found, what)
        if said not in (None, wanted) and wanted is not None:
            raise InvalidParameter(what, f"{said} is not {name}'s, which is {wanted}", hint="drop one of the two")
    return replace(found, model=found.model or model)
