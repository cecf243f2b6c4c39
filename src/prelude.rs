//! All that a program usually needs.
