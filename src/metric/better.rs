/// Which of two values is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// The lower one, as for losses.
    Lower,
    /// The higher one, as for accuracies.
    Higher,
}
