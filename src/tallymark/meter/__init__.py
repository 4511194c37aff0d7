"""Where usage is reported. A meter takes meter events and answers in our words."""
