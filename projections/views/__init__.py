"""What happened, for people: timelines, figures, lists."""
