//! The instructions of the processor.

/// Returns the names of the instructions that speed up training, with true if the processor supports them.
#[cfg(target_arch = "x86_64")]
pub(crate) fn processor_features() -> Vec<(&'static str, bool)> {
    vec![
        ("AVX2", is_x86_feature_detected!("avx2")),
        ("AVX-512", is_x86_feature_detected!("avx512f")),
        ("AVX-512 bf16", is_x86_feature_detected!("avx512bf16")),
        ("AMX bf16", flag("amx_bf16")),
    ]
}

#[cfg(target_arch = "aarch64")]
pub(crate) fn processor_features() -> Vec<(&'static str, bool)> {
    vec![
        ("NEON", std::arch::is_aarch64_feature_detected!("neon")),
        ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
    ]
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn processor_features() -> Vec<(&'static str, bool)> {
    vec![]
}

/// Returns true if the processor has a flag, by Linux's name: the standard library does not know all of
/// them.
#[cfg(target_arch = "x86_64")]
fn flag(name: &str) -> bool {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|flag| flag == name))
}

/// Returns true if the processor has instructions for bfloat16. Otherwise, libtorch emulates it.
pub(crate) fn has_bf16() -> bool {
    processor_features().into_iter().any(|(name, has)| has && name.ends_with("bf16"))
}
