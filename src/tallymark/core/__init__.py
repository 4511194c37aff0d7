"""The words of tallymark as types. Pure: standard library only, no clock, no I/O, no float."""
