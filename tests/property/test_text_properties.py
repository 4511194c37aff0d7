"""What a ledger keeps holds nothing that a database refuses, and else is unchanged."""

from hypothesis import given
from hypothesis import strategies as st

from tallymark.core.text import REPLACEMENT, without_nul

# Any code unit, so that NUL, halves of pairs and whole pairs come up, and backslashes before "u0000".
UNITS = st.sampled_from(["\0", "\ud83d", "\ude00", "\\", "u0000", "ud83d", "a", "\n", '"', "é", "\U0001f600"])
TEXT = st.lists(UNITS | st.characters()).map("".join)


@given(TEXT)
def test_nul_is_replaced_in_text(text):
    """For a database."""
    assert without_nul(text) == text.replace("\0", REPLACEMENT)
