//! The position of the largest output.

/// Returns the position of the largest value, the first of equal ones. Returns 0 if there are no values or the
/// first one is NaN; any other NaN is skipped.
///
/// ```
/// use finetune_image::prediction::largest;
///
/// assert_eq!(largest([0.1, 0.6, 0.3]), 1);
/// assert_eq!(largest([0.5, 0.5]), 0);
/// ```
pub fn largest(values: impl IntoIterator<Item = f32>) -> usize {
    let mut values = values.into_iter().enumerate();
    let first = values.next().unwrap_or_default();
    values.fold(first, |best, next| if next.1 > best.1 { next } else { best }).0
}
