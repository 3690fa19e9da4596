"""Routes of the service, a file for each subject."""

PREFIX = "/api/v1"
