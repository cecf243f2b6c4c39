/// Whether lower or higher values are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Lower values, as for losses.
    Lower,
    /// Higher values, as for accuracies.
    Higher,
}
