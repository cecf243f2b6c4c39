//! Panics of code that is not this crate's own, as errors.

use super::native::{grad_enabled, set_grad_enabled};
use crate::error::{Error, Result};
use std::{
    any::Any,
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe},
    sync::Once,
};
use tch::TchError;

thread_local! {
    /// How many calls of `caught` this thread is in.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// Where the last panic within `caught` was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Counts a call of `caught` until it ends.
struct Inside;

impl Inside {
    fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// What `run` returns. A panic in it is an error: [`Error::Torch`] with libtorch's own message if a plain
/// method of `tch` panicked, [`Error::Panic`] otherwise. Nothing is printed to standard error.
///
/// For code of the user's, which may panic by itself or by `tch`'s plain methods. Whether gradients are recorded
/// is as before, which `tch::no_grad` does not see to where its closure panics. Other state that `run` changes
/// may be left half changed: the caller puts it back or gives it up. A program that is compiled with
/// `panic = "abort"` ends at the panic.
pub(crate) fn caught<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    be_quiet_inside();
    let (inside, grad) = (Inside::enter(), grad_enabled());
    let done = panic::catch_unwind(AssertUnwindSafe(run));
    drop(inside);
    done.unwrap_or_else(|payload| {
        set_grad_enabled(grad);
        Err(error_of(payload))
    })
}

/// Puts a hook before the one that is there: it notes where a panic within `caught` is, and leaves all other
/// panics to the one before.
fn be_quiet_inside() {
    static ONCE: Once = Once::new();
    if std::thread::panicking() {
        return; // The hook cannot be set now.
    }
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A thread that is ending has no thread-locals any more.
            if DEPTH.try_with(Cell::get).unwrap_or(0) == 0 {
                return before(info);
            }
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            PLACE.with_borrow_mut(|last| *last = place);
        }));
    });
}

fn error_of(payload: Box<dyn Any + Send>) -> Error {
    let why = match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => match other.downcast::<&'static str>() {
            Ok(text) => (*text).to_owned(),
            Err(other) => {
                // To drop a value of an unknown type may panic again.
                std::mem::forget(other);
                "it has no message".to_owned()
            }
        },
    };
    match of_libtorch(&why) {
        Some(message) => TchError::Torch(message).into(),
        None => Error::panic(PLACE.take(), why),
    }
}

/// libtorch's message, if the panic is that of `unwrap` in a plain method of `tch`.
fn of_libtorch(why: &str) -> Option<String> {
    let error = why.strip_prefix("called `Result::unwrap()` on an `Err` value: ")?;
    for variant in ["Torch", "Kind", "Shape", "Convert", "FileFormat"] {
        let Some(rest) = error.strip_prefix(variant) else { continue };
        let quoted = rest.strip_prefix("(\"")?.strip_suffix("\")")?;
        return Some(unescaped(quoted));
    }
    None
}

/// The text whose `Debug` form, without the quotes, is given.
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
    use std::{env, panic::panic_any, process::Command};
    use tch::{Kind, Tensor};

    #[test]
    fn a_panic_is_an_error_with_its_message_and_place() {
        let n = caught(|| Ok(3)).unwrap();
        assert_eq!(n, 3);
        let e = caught::<()>(|| panic!("no {}", "luck")).unwrap_err().to_string();
        assert!(e.contains("no luck") && e.contains("caught.rs:"), "{e}");
        let e = caught::<()>(|| panic!("plain")).unwrap_err().to_string();
        assert!(e.contains("plain"), "{e}");
        let e = caught::<()>(|| panic_any(7)).unwrap_err().to_string();
        assert!(e.contains("no message"), "{e}");
        let e = caught(|| caught::<()>(|| panic!("inner"))).unwrap_err().to_string();
        assert!(e.contains("inner"), "{e}");
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

    /// In a process of its own, since the test harness catches what is printed here.
    #[test]
    fn only_panics_outside_are_printed() {
        let done = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", "sys::caught::tests::panics"])
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "{printed}");
        assert!(printed.contains("told by the hook before"), "{printed}");
        assert!(!printed.contains("kept quiet"), "{printed}");
    }

    #[test]
    #[ignore = "run by the test above, in a process of its own"]
    fn panics() {
        assert!(caught::<()>(|| panic!("kept quiet")).is_err());
        std::thread::spawn(|| panic!("told by the hook before")).join().unwrap_err();
        assert!(caught::<()>(|| panic!("kept quiet")).is_err());
    }
}
