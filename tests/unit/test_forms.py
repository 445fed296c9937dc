"""Tests that what clients write is read without HTTP; test_server_interfaces and its neighbours test how."""

from __future__ import annotations

import subprocess
import sys

import pytest

from phiplug.forms.parsing import parse_object
from phiplug.forms.problems import Refused


def test_the_forms_need_no_library_of_the_server():
    blocked = "import sys; sys.modules |= dict.fromkeys(('starlette', 'fastapi', 'uvicorn', 'msgpack', 'psutil'))"
    imports = "import phiplug.forms.chat, phiplug.forms.completions, phiplug.forms.admission, phiplug.forms.parsing"
    subprocess.run([sys.executable, "-c", f"{blocked}; {imports}"], check=True)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"{", "line 7 is not JSON"),
        (b"[]", "line 7 is list"),
        (b"\xff", "line 7 is not UTF-8: byte 0"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": 1, "a": 2}', "'a' comes twice"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_json_object_is_refused_in_the_callers_words(raw, said):
    with pytest.raises(Refused, match=said):
        parse_object(raw, "line 7")
