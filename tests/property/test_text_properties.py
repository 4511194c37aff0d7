"""Whatever JSON Langfuse sends, what is decoded of it holds nothing that a database refuses, and else is unchanged."""

import json

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from tallymark.core.text import REPLACEMENT, clean_json, without_nul

# Any code unit, so that NUL, halves of pairs and whole pairs come up, and backslashes before "u0000".
UNITS = st.sampled_from(["\0", "\ud83d", "\ude00", "\\", "u0000", "ud83d", "a", "\n", '"', "é", "\U0001f600"])
TEXT = st.lists(UNITS | st.characters()).map("".join)


def cleaned(text):
    """The text as it must come out: pairs are joined, what is left of them and NUL is replaced."""
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    return "".join(REPLACEMENT if each == "\0" or "\ud800" <= each <= "\udfff" else each for each in joined)


@given(st.dictionaries(TEXT, TEXT | st.lists(TEXT)))
@example({"\\u0000": "\\\0", "\\": "\\\\ud83d"})
def test_escaped_text_comes_out_clean(sent):
    """As Python and JavaScript write it: what is not ASCII, or not a character, is escaped."""
    found = msgspec.json.decode(clean_json(json.dumps(sent).encode()))

    assert found == {
        cleaned(name): cleaned(value) if isinstance(value, str) else [cleaned(each) for each in value]
        for name, value in sent.items()
    }


@given(st.binary())
def test_what_is_clean_stays_as_it_is(body):
    """Byte for byte, whatever it is; and cleaning twice is cleaning once."""
    once = clean_json(body)

    assert clean_json(once) == once
    if b"\\u" not in body:
        assert once == body


@given(TEXT)
def test_nul_is_replaced_in_text(text):
    """For a database."""
    assert without_nul(text) == text.replace("\0", REPLACEMENT)
