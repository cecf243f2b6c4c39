/// The direction in which the values of a metric are better. There is no third one, so the enum is
/// exhaustive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Lower values are better, as for losses.
    Lower,
    /// Higher values are better, as for accuracies.
    Higher,
}
