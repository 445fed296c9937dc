"""Makes varied strings, the same ones for a seed every time: what a tokenizer may meet, plain and odd."""

# ruff: noqa: E501, RUF001 - letters that look like others are the point, and wide ones count double

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

CONTROL_TOKENS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<s>",
    "</s>",
    "<|end|>",
    "<|user|>",
    "<start_of_turn>",
)

PROSE = (
    "The quick brown fox jumps over the lazy dog.", "It's what we've said; they'd know, and I'LL SHOUT 'em DOWN.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.", "Où est l'élève? À l'école, bien sûr!",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.", "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy", "İstanbul'da ÇILGIN bir şoför; DİYARBAKIR'ın", "ÉTÉ À LA MER",
)  # fmt: skip
CODE = (
    "def f(x: int) -> str:\n\treturn f'{x!r:>{8}}'\n", "for (int i=0;i<n;++i){ a[i]+=b[i]<<2; }\r\n", "<a href=\"x\">y</a>",
    "if not a == b or c != d:\n        pass  # see (me): ...\n\n\n", "$ls -la | grep '^d' && echo \"ok\" > /dev/null 2>&1",
    "{\"a\": [1, 2.5e-3, null], \"b\": {}}", "SELECT * FROM t WHERE x >= 10 AND y LIKE '%z%';", "\\begin{x}_i^{2}\\end{x}",
    "HTTPServer2XMLParser_getURLForID", "#!/usr/bin/env python3\n", "a\n/\n//b\n///c /* d */", "0xDEADBEEF 1_000 1e10",
)  # fmt: skip
SCRIPTS = (
    "床前明月光,疑是地上霜。举头望明月,低头思故乡。", "いろはにほへと ちりぬるを カタカナ ひらがな", "다람쥐 헌 쳇바퀴에 타고파",
    "نص حكيم له سر قاطع وذو شأن عظيم", "דג סקרן שט בים מאוכזב", "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा", "กขฃคฅฆง ไทยภาษา",
    "อักษร๑๒๓", "١٢٣٤٥٦ ۷۸۹", "Ⅷ ½ ² ③ ㊿", "ﬁ ﬂ Ǆ ß ſ", "தமிழ் மொழி", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𓀀",
)  # fmt: skip
MARKS = (
    "e\u0301",
    "a\u0308\u0304",
    "n\u0303o\u0302",
    "Z\u0351\u0343a\u0322\u0330l\u033bg\u0315o",
    "\u0301",
    "q\u0307\u0323",
)
EMOJI = ("🙂", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "👍🏽", "☃️", "🤷🏿‍♀️", "❤", "\u200d", "\ufe0f")
SPACES = (" ", "  ", "   ", " " * 7, " " * 16, "\n", "\n\n", "\n\n\n\n", "\t", "\t\t", "\r\n", " \n", "\n ", "\t \n \t")
ODD_SPACES = (
    "\u00a0",
    "\u3000",
    "\u2009",
    "\u2028",
    "\x0b",
    "\x0c",
    "\x85",
    "\u200b",
    "\ufeff",
    "\x00",
    "\x1f",
    "\u2581",
)
DIGITS = ("0", "7", "42", "123", "1234", "12345678", "3.14159", "-1,234,567.89", "1st 2nd 3RD", "2024-01-31T23:59:59Z")
PUNCTUATION = (
    "...",
    "?!",
    "----",
    "====",
    "'",
    "''",
    "`",
    "```",
    "«»",
    "“”",
    "—",
    "…",
    "¿¡",
    "'s",
    "'LL",
    "n't",
    "(/)",
    "#@!",
)


def varied(count: int, seed: int, more: Sequence[str] = CONTROL_TOKENS) -> list[str]:
    """Return `count` strings; some have texts of `more` in them, such as control tokens."""
    random_ = random.Random(seed)
    kinds = [PROSE, CODE, SCRIPTS, MARKS, EMOJI, SPACES, ODD_SPACES, DIGITS, PUNCTUATION, tuple(more)]
    makers: list[Callable[[], str]] = [
        lambda: random_.choice(random_.choice(kinds)),
        lambda: "".join(random_.choice(random_.choice(kinds)) for _ in range(random_.randint(2, 8))),
        lambda: random_.choice(SPACES) + random_.choice(random_.choice(kinds)) + random_.choice(SPACES),
        lambda: "".join(_words(random_)),
        lambda: _slices(random_, kinds),
        lambda: "".join(chr(_code_point(random_)) for _ in range(random_.randint(1, 12))),
    ]
    return [random_.choice(makers)() for _ in range(count)]


def _words(random_: random.Random) -> Iterator[str]:
    for _ in range(random_.randint(1, 12)):
        yield "".join(random_.choices("aeiorstnlAEST'0189.-_", k=random_.randint(1, 9)))
        yield random_.choice((" ", " ", " ", "  ", "\n", "", "\t"))


def _slices(random_: random.Random, kinds: Sequence[Sequence[str]]) -> str:
    """Cut texts where nobody would, so that what belongs together is apart."""
    texts = (random_.choice(random_.choice(kinds)) for _ in range(random_.randint(1, 5)))
    return "".join(text[random_.randint(0, len(text)) :] for text in texts)


def _code_point(random_: random.Random) -> int:
    low, high = random_.choice(
        [(0x20, 0x7F), (0xA0, 0x250), (0x370, 0x530), (0x5D0, 0x6F0), (0x900, 0xE60), (0x3040, 0x9FA0)]
    )
    return random_.randrange(low, high)
