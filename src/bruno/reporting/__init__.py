"""Pictures, and a self-contained HTML report of an experiment."""
