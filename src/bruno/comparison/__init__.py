"""Few-shot systems side by side: the same classes, episodes and CPU time for each."""
