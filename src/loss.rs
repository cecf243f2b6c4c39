//! Losses, and what a model's output means under them.
