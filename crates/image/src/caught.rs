//! Converts panics to values.

use std::{
    any::Any,
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe},
    sync::Once,
    thread,
};

thread_local! {
    /// The number of nested calls of `caught` on this thread.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// The place of the last panic within `caught`.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic that [`caught`] caught.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a panic at {place}: {why}")]
#[non_exhaustive]
pub struct Panic {
    /// The file, line and column of the panic, or "an unknown place".
    pub place: String,
    /// The panic's message, or "it has no message".
    pub why: String,
}

/// Counts a call of `caught` until it is dropped.
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

/// Calls `run` and returns its result, or its panic. Nothing is printed to standard error: the first call
/// installs a panic hook, which passes panics outside of `caught` to the previous hook of the program.
///
/// It is meant for code that may panic, such as user code, decoders and runtimes. State that `run` changes may be
/// incomplete after a panic; the caller must restore or drop it. A panic on a thread that `run` starts is printed.
/// A program that is compiled with `panic = "abort"` ends at the panic.
///
/// ```
/// let sum = finetune_image::caught(|| [1, 2].iter().sum::<i32>());
/// assert_eq!(sum, Ok(3));
/// let panic = finetune_image::caught::<()>(|| panic!("no {}", "luck")).unwrap_err();
/// assert_eq!(panic.why, "no luck");
/// ```
///
/// # Errors
/// [`Panic`] if `run` panics.
pub fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Panic> {
    be_quiet_inside();
    let inside = Inside::enter();
    let done = panic::catch_unwind(AssertUnwindSafe(run));
    drop(inside);
    done.map_err(panic_of)
}

/// Installs a panic hook. It stores the place of a panic within `caught`, and passes all other panics to the
/// previous hook.
fn be_quiet_inside() {
    static ONCE: Once = Once::new();
    if thread::panicking() {
        return; // A hook cannot be set while the thread panics.
    }
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // A thread that is ending has no thread-local values.
            if DEPTH.try_with(Cell::get).unwrap_or(0) == 0 {
                return before(info);
            }
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            PLACE.with_borrow_mut(|last| *last = place);
        }));
    });
}

fn panic_of(payload: Box<dyn Any + Send>) -> Panic {
    let why = match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => match other.downcast::<&'static str>() {
            Ok(text) => (*text).to_owned(),
            Err(other) => {
                // Dropping a value of an unknown type could panic again.
                std::mem::forget(other);
                "it has no message".to_owned()
            }
        },
    };
    // A thread pool resumes a panic on the waiting thread without calling the hook there.
    let place = Some(PLACE.take()).filter(|place| !place.is_empty());
    Panic { place: place.unwrap_or_else(|| "an unknown place".to_owned()), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        env,
        panic::{panic_any, resume_unwind},
        process::Command,
    };

    fn panic(run: impl FnOnce()) -> Panic {
        caught(run).unwrap_err()
    }

    #[test]
    fn a_panic_has_its_message_and_place() {
        assert_eq!(caught(|| 3), Ok(3));
        let text = panic(|| panic!("no {}", "luck")).to_string();
        assert!(text.starts_with("a panic at ") && text.ends_with(": no luck"), "{text}");
        assert!(text.contains("caught.rs:"), "{text}");
        assert_eq!(panic(|| panic!("plain")).why, "plain");
        assert_eq!(panic(|| panic_any(7)).why, "it has no message");
        let inner = caught(|| panic(|| panic!("inner"))).unwrap();
        assert_eq!(inner.why, "inner");
        let resumed = panic(|| resume_unwind(Box::new("of another thread")));
        assert_eq!(resumed.to_string(), "a panic at an unknown place: of another thread");
    }

    /// Runs in a separate process, since the test harness captures the output of this one.
    #[test]
    fn only_panics_outside_are_printed() {
        let done = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--ignored", "--nocapture", "caught::tests::panics"])
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
        thread::spawn(|| panic!("told by the hook before")).join().unwrap_err();
        assert!(caught::<()>(|| panic!("kept quiet")).is_err());
    }
}
