//! The native layer: the only place with `unsafe`.
