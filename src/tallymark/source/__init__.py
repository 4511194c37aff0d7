"""Where traces come from. A source reads windows of traces and yields them in our words, without prompts."""
