"""From usage to credits: rate cards, rating and customers. Pure: no clock, no I/O, no float."""
