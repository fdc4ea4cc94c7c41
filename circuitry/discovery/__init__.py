"""Discovery: which edges carry a behaviour that nobody named beforehand, ranked by attribution and verified exactly."""
