"""Gathers all that can be said of a model without loading it into an engine.

Facts from the headers, the tokenizer, the chat template with a sample of its work, and which backends would take it. A
part that is damaged, or of a kind that is not known here, is reported in its place and hides none of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from phiplug.errors import PhiplugError
from phiplug.modelinfo.preview import Preview, preview
from phiplug.models.aliases import ALIASES, Alias
from phiplug.models.metadata import ModelMetadata, read_metadata
from phiplug.plugins.choice import accepting
from phiplug.text.template import ChatTemplate, find_template
from phiplug.text.tokenizer import load_tokenizer
from phiplug.text.vocabulary import STOP_TEXTS

if TYPE_CHECKING:
    from phiplug.plugins import Plugins
    from phiplug.spi import ModelFiles, Tokenizer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TokenizerDescription:
    """What is to be known of a tokenizer.

    Attributes:
        vocab_size: how many ids there are.
        bos_id: the id that begins a sequence, or None.
        adds_bos: whether the model asks for it.
        stop_ids: the ids that end an answer, with their texts; "" where that is not known.
    """

    vocab_size: int
    bos_id: int | None
    adds_bos: bool
    stop_ids: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class TemplateDescription:
    """What is to be known of a chat template.

    Attributes:
        source: in Jinja.
        variables: the names that it reads from outside, or None where it is invalid.
        preview: what it makes of a sample conversation, or None where it cannot.
        reasoning: what begins and ends reasoning, or None where no form of it is known.
        tools: the name of the form in which the model calls tools, or None where none is known.
    """

    source: str
    variables: tuple[str, ...] | None = None
    preview: Preview | None = None
    reasoning: tuple[str, str] | None = None
    tools: str | None = None


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What is to be known of a model.

    Attributes:
        reference: what was asked for.
        path: the GGUF file (the first one of a split), or the folder.
        format: "gguf", "folder", or a plugin's own word.
        metadata: what the files say.
        tokenizer: None where it cannot be built.
        template: None where there is none.
        backends: the names of those that take such files, whether they work here or not.
        problems: what is wrong, each in a line.
    """

    reference: str
    path: str
    format: str
    metadata: ModelMetadata
    tokenizer: TokenizerDescription | None
    template: TemplateDescription | None
    backends: tuple[str, ...]
    problems: tuple[str, ...]


def describe(files: ModelFiles, plugins: Plugins, *, template: str | None = None) -> ModelDescription:
    """Look into a model's files.

    Args:
        files: where they are.
        plugins: who may bring a tokenizer, a template or a backend.
        template: Jinja source to be looked at in the place of the model's own.

    Raises:
        ModelError: the header cannot be read.
        PluginError: a plugin failed.
    """
    problems: list[str] = []
    metadata = read_metadata(files)
    tokenizer = _tried(lambda: plugins.tokenizer(files) or load_tokenizer(files), problems)
    source = template or plugins.chat_template(files) or _tried(lambda: find_template(files), problems)
    return ModelDescription(
        reference=files.reference,
        path=str(files.path),
        format=files.format,
        metadata=replace(metadata, licence=licence_of(files, metadata), source=_source_of(files, metadata)),
        tokenizer=_describe_tokenizer(tokenizer) if tokenizer else None,
        template=_describe_template(
            ChatTemplate(source, tool_formats=tuple(plugins.tool_formats().values())), tokenizer, problems
        )
        if source
        else None,
        backends=tuple(backend.name for backend in accepting(plugins.backends(), files)),
        problems=tuple(problems),
    )


def licence_of(files: ModelFiles, metadata: ModelMetadata) -> str | None:
    """Return a model's licence as its files spell it, or else as the table of short names has it."""
    alias = _alias_of(files)
    return metadata.licence or (alias.licence if alias else None)


def _source_of(files: ModelFiles, metadata: ModelMetadata) -> str | None:
    """Return the page that the table of short names has, or else what the files say."""
    alias = _alias_of(files)
    return alias.source if alias else metadata.source


def _alias_of(files: ModelFiles) -> Alias | None:
    return next((alias for alias in ALIASES.values() if files.reference in (alias.name, *alias.references)), None)


def _describe_tokenizer(tokenizer: Tokenizer) -> TokenizerDescription:
    texts = {}
    for text in STOP_TEXTS.union(tokenizer.special_tokens.values()):
        ids = tokenizer.encode(text)
        if len(ids) == 1:
            texts[ids[0]] = text
    stops = {token: texts.get(token, "") for token in sorted(tokenizer.stop_ids)}
    return TokenizerDescription(tokenizer.vocab_size, tokenizer.bos_id, tokenizer.adds_bos, stops)


def _describe_template(template: ChatTemplate, tokenizer: Tokenizer | None, problems: list[str]) -> TemplateDescription:
    variables = _tried(template.variables, problems)
    if variables is None:
        return TemplateDescription(template.source)
    sample = _tried(lambda: preview(template, tokenizer), problems) if tokenizer else None
    markers = (template.reasoning.begin, template.reasoning.end) if template.reasoning else None
    tools = template.tool_format.name if template.tool_format else None
    return TemplateDescription(template.source, tuple(variables), sample, markers, tools)


def _tried(part: Callable[[], T], problems: list[str]) -> T | None:
    """Return what `part` does; what goes wrong in it becomes a line of `problems`."""
    try:
        return part()
    except PhiplugError as error:
        problems.append(f"{error} [{type(error).__name__}]")
        return None
