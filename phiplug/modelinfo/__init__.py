"""What `phiplug models info` shows of a model, without loading it into an engine."""
