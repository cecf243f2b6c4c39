//! What is reported of a validation.
