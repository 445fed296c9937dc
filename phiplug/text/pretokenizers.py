r"""How the text is cut into words before byte-level BPE: the table of `tokenizer.ggml.pre`.

A name that a GGUF carries -> regular expressions, in Oniguruma's syntax. Each cuts the pieces that the one before it
left; what it matches becomes a piece, and so does what lies between two matches. This is data.

The expressions are those that llama.cpp (src/llama-vocab.cpp) uses for these names, because a GGUF carries the name and
not the expression. Where they depart from the model's own tokenizer.json (for gpt-4o and tekken: letters outside ASCII
have no case, and a combining mark is no letter), so do these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class PreTokenizer(NamedTuple):
    """One way to cut text.

    Attributes:
        patterns: applied one after the other.
        ignore_merges: whether a word that is in the vocabulary is one token, whatever the merges say.
        adds_bos: whether a sequence begins with the bos token where the file does not say.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    adds_bos: bool = False


_ENGLISH = r"'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_UPPER, _LOWER = r"[\p{L}&&[^a-z]]", r"[\p{L}&&[^A-Z]]"  # as llama.cpp approximates \p{Lu} and \p{Ll}
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
_HAN_KANA = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_LLAMA3 = rf"(?:{_ENGLISH})|{_WORD}|\p{{N}}{{1,3}}|{_SYMBOLS}|{_SPACES}"
_QWEN2 = rf"(?:{_ENGLISH})|{_WORD}|\p{{N}}|{_SYMBOLS}|{_SPACES}"
_QWEN35 = (
    rf"(?:{_ENGLISH})|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_GPT4O = (
    rf"{_CASED[0]}(?:{_ENGLISH})?|{_CASED[1]}(?:{_ENGLISH})?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_TEKKEN = rf"{_CASED[0]}|{_CASED[1]}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
_SEED_CODER = rf"(?:{_ENGLISH})|{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}"
_DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}"
)

_AS_GPT2 = PreTokenizer((_GPT2,))
_AS_STARCODER = PreTokenizer((r"\p{N}", _GPT2))
_AS_LLAMA3 = PreTokenizer((_LLAMA3,), ignore_merges=True, adds_bos=True)
_AS_CL100K = PreTokenizer((_LLAMA3,))
_AS_QWEN2 = PreTokenizer((_QWEN2,))
_AS_GPT4O = PreTokenizer((_GPT4O,))
_AS_DEEPSEEK3 = PreTokenizer((r"\p{N}{1,3}", _HAN_KANA, _DEEPSEEK3))

PRE_TOKENIZERS: Mapping[str, PreTokenizer] = {
    "gpt-2": _AS_GPT2,
    "phi-2": _AS_GPT2,
    "mpt": _AS_GPT2,
    "olmo": _AS_GPT2,
    "jais": _AS_GPT2,
    "trillion": _AS_GPT2,
    "granite-docling": _AS_GPT2,
    "gigachat": _AS_GPT2,
    "a.x-4.0": _AS_GPT2,
    "mellum": _AS_GPT2,
    "exaone4": _AS_GPT2,
    "smollm": _AS_STARCODER,
    "starcoder": _AS_STARCODER,
    "refact": _AS_STARCODER,
    "command-r": _AS_STARCODER,
    "codeshell": _AS_STARCODER,
    "exaone": _AS_STARCODER,
    "minerva-7b": _AS_STARCODER,
    "falcon": PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, r"[0-9][0-9][0-9]")),
    "llama-bpe": _AS_LLAMA3,
    "llama3": _AS_LLAMA3,
    "llama-v3": _AS_LLAMA3,
    "falcon3": _AS_LLAMA3,
    "falcon-h1": _AS_LLAMA3,
    "pixtral": _AS_LLAMA3,
    "midm-2.0": _AS_LLAMA3,
    "lfm2": _AS_LLAMA3,
    "dbrx": _AS_CL100K,  # also what a GGUF of phi-4 says
    "smaug-bpe": _AS_CL100K,
    "glm4": _AS_CL100K,
    "chatglm-bpe": _AS_CL100K,
    "qwen2": _AS_QWEN2,  # qwen3 as well
    "deepseek-r1-qwen": _AS_QWEN2,
    "megrez": _AS_QWEN2,
    "kormo": _AS_QWEN2,
    "stablelm2": _AS_QWEN2,
    "hunyuan": _AS_QWEN2,
    "solar-open": _AS_QWEN2,
    "grok-2": _AS_QWEN2,
    "qwen35": PreTokenizer((_QWEN35,)),
    "gpt-4o": _AS_GPT4O,  # phi-4-mini and gpt-oss as well
    "llama4": _AS_GPT4O,
    "kanana2": _AS_GPT4O,
    "minimax-m2": _AS_GPT4O,
    "tekken": PreTokenizer((_TEKKEN,), ignore_merges=True, adds_bos=True),
    "deepseek-v3": _AS_DEEPSEEK3,
    "hunyuan-dense": _AS_DEEPSEEK3,
    "seed-coder": PreTokenizer((_SEED_CODER,)),
}
