"""Where stations meet: one verb a file, each verb a list of calls."""
