"""What is published elsewhere and hosts bring along: configurations and triggers of the Autoplay SDK."""
