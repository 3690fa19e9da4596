"""What each sub-command of ``bruno`` does."""
