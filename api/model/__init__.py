"""The language model: any OpenAI-compatible endpoint, or none."""
