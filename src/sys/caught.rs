//! Converts panics in code outside this crate to errors.

use super::native::{grad_enabled, set_grad_enabled};
use crate::error::{Error, Result};
use finetune_image::Panic;
use tch::{TchError, Tensor};

/// Calls `run` and returns its result. A panic becomes an error: [`Error::Torch`] with libtorch's message if an
/// infallible method of `tch` panicked, [`Error::Panic`] otherwise. Nothing is printed to standard error.
///
/// It is for user code, which may panic itself or call infallible methods of `tch`. After a panic, gradients are
/// recorded as before the call: `tch::no_grad` does not restore this if its closure panics. Otherwise, see
/// [`finetune_image::caught()`].
pub(crate) fn caught<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    let grad = grad_enabled();
    finetune_image::caught(run).unwrap_or_else(|panic| {
        set_grad_enabled(grad);
        Err(error_of(panic))
    })
}

/// As [`caught`], for user code that returns a tensor, which must be [`defined`].
pub(crate) fn caught_tensor(run: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
    caught(run).and_then(defined)
}

/// Returns an error if a tensor from user code is undefined: it has neither a device nor a kind, and asking for
/// them panics.
pub(crate) fn defined(made: Tensor) -> Result<Tensor> {
    if made.defined() {
        return Ok(made);
    }
    Err(Error::other("the returned tensor is undefined"))
}

fn error_of(panic: Panic) -> Error {
    match of_libtorch(&panic.why) {
        Some(message) => TchError::Torch(message).into(),
        None => Error::panic(panic.place, panic.why),
    }
}

/// Returns libtorch's message, if the panic is that of `unwrap` in an infallible method of `tch`.
fn of_libtorch(why: &str) -> Option<String> {
    let error = why.strip_prefix("called `Result::unwrap()` on an `Err` value: ")?;
    for variant in ["Torch", "Kind", "Shape", "Convert", "FileFormat"] {
        let Some(rest) = error.strip_prefix(variant) else { continue };
        let quoted = rest.strip_prefix("(\"")?.strip_suffix("\")")?;
        return Some(unescaped(quoted));
    }
    None
}

/// Returns the text whose `Debug` form, without the quotes, is `text`.
fn unescaped(text: &str) -> String {
    let mut all = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            all.push(c);
            continue;
        }
        match rest.next() {
            Some('n') => all.push('\n'),
            Some('t') => all.push('\t'),
            Some('r') => all.push('\r'),
            Some('0') => all.push('\0'),
            Some('u') => {
                let digits: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                let code = u32::from_str_radix(&digits, 16).ok();
                all.extend(code.and_then(char::from_u32));
            }
            Some(other) => all.push(other),
            None => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    #[test]
    fn a_panic_is_an_error_with_its_message_and_place() {
        assert_eq!(caught(|| Ok(3)).unwrap(), 3);
        let e = caught::<()>(|| panic!("no {}", "luck")).unwrap_err();
        assert!(matches!(e, Error::Panic { .. }), "{e}");
        let e = e.to_string();
        assert!(e.contains("no luck") && e.contains("caught.rs:"), "{e}");
        assert_eq!(caught::<()>(|| Err(Error::other("mine"))).unwrap_err().to_string(), "mine");
    }

    #[test]
    fn what_libtorch_says_is_kept() {
        let zeros = |n: i64| Tensor::zeros([n, n], (Kind::Float, tch::Device::Cpu));
        let e = caught(|| Ok(zeros(2).matmul(&zeros(3)))).unwrap_err();
        assert!(matches!(e, Error::Torch(_)), "{e}");
        let e = e.to_string();
        assert!(e.contains("mat1 and mat2 shapes cannot be multiplied (2x2 and 3x3)"), "{e}");
        assert!(!e.contains("Exception raised"), "{e}");
    }

    #[test]
    fn gradients_are_recorded_after_a_panic_without_them() {
        assert!(caught::<()>(|| tch::no_grad(|| panic!("no"))).is_err());
        let x = Tensor::ones([1], (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
        assert!((&x * 2.0).requires_grad());
    }

    #[test]
    fn debug_texts_are_read_back() {
        let text = "a \"b\" 'c' \\d\n\te\u{7f}ü\0";
        let debug = format!("{text:?}");
        assert_eq!(unescaped(&debug[1..debug.len() - 1]), text);
    }
}
