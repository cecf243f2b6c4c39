//! Checks for memory before large allocations: an allocation that fails ends the process.

/// The largest number of bytes that is allocated without a check, as for the pixels of the largest image.
const UNCHECKED: usize = 1 << 30;

/// Returns true if `n` values of type `T` fit into the memory that is available now.
pub(crate) fn fits<T>(n: usize) -> bool {
    let small = n.checked_mul(size_of::<T>()).is_some_and(|bytes| bytes <= UNCHECKED);
    small || Vec::<T>::new().try_reserve_exact(n).is_ok()
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn more_bytes_than_addresses_do_not_fit() {
        assert!(fits::<u8>(0) && fits::<f32>(1 << 20));
        assert!(!fits::<u8>(usize::MAX) && !fits::<f32>(usize::MAX / 4));
    }
}
