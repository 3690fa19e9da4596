"""Other few-shot systems, to compare with and to judge samples by."""
