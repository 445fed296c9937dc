r"""How the text is cut into words before byte-level BPE: the table of `tokenizer.ggml.pre`.

A name that a GGUF carries -> regular expressions, in Oniguruma's syntax. Each cuts the pieces that the one before it
left; what it matches becomes a piece, and so does what lies between two matches. This is data.

The expressions are those that llama.cpp (src/llama-vocab.cpp) uses for these names, because a GGUF carries the name and
not the expression. Where they depart from the model's own tokenizer.json (for gpt-4o and tekken: letters outside ASCII
have no case, and a combining mark is no letter; for deepseek-llm: U+3000 is white space and no punctuation), so do
these.
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
        spells_bytes: whether the pieces are spelt in GPT-2's alphabet of bytes; else they are text as SentencePiece
            spells it.
    """

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    adds_bos: bool = False
    spells_bytes: bool = True


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

_CASED_LETTERS = (  # with upper and lower case, in the version of Unicode that DeepSeek took
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373"
    "\u0376\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481"
    "\u048a-\u052f\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b"
    "\u1d6b-\u1d77\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b"
    "\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb"
    "\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128"
    "\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4"
    "\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf"
    "\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3"
    "\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
_HAN_HANGUL = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
_DEEPSEEK = (
    r"[\r\n]", rf"\s?[{_CASED_LETTERS}]+", "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3001-\u3002]+",
    r"\s+$", _HAN_HANGUL, r"\p{N}+",
)  # fmt: skip
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _HAN_HANGUL, r"\p{N}")

_AS_GPT2 = PreTokenizer((_GPT2,))
_AS_STARCODER = PreTokenizer((r"\p{N}", _GPT2))
_AS_LLAMA3 = PreTokenizer((_LLAMA3,), ignore_merges=True, adds_bos=True)
_AS_CL100K = PreTokenizer((_LLAMA3,))
_AS_QWEN2 = PreTokenizer((_QWEN2,))
_AS_GPT4O = PreTokenizer((_GPT4O,))
_AS_DEEPSEEK3 = PreTokenizer((r"\p{N}{1,3}", _HAN_KANA, _DEEPSEEK3))

GEMMA4 = PreTokenizer((r"\n+",), adds_bos=True, spells_bytes=False)
"""Of `tokenizer.ggml.model` "gemma4", which needs no name; its sequences begin with bos whatever a file says."""

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
    "deepseek-llm": PreTokenizer(_DEEPSEEK),
    "deepseek-coder": PreTokenizer(_DEEPSEEK_CODER),
    "deepseek-v3": _AS_DEEPSEEK3,
    "hunyuan-dense": _AS_DEEPSEEK3,
    "seed-coder": PreTokenizer((_SEED_CODER,)),
}
