//! Return codes of C turned into errors, here and nowhere else.
//!
//! DPDK has two conventions: ethdev and the buses return `-errno`; EAL and the pools return -1 or a
//! null pointer and leave the number in `rte_errno`. The number is often of little help; what DPDK
//! logged with it is kept too.

use std::ffi::{CStr, c_int};
use std::fmt;
use std::ptr::NonNull;

use crate::messages::take_first_error;

/// A call into DPDK that failed: what was attempted, why it did not work, and what DPDK logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DpdkError {
    attempted: String,
    reason: String,
    errno: i32,
    logged: Option<String>,
}

impl DpdkError {
    fn new(errno: i32, attempted: String) -> Self {
        Self {
            attempted,
            reason: text_of(errno),
            errno,
            logged: take_first_error(),
        }
    }

    /// The error number: one of the kernel's, or above 1000 one of DPDK's own.
    #[must_use]
    pub fn errno(&self) -> i32 {
        self.errno
    }
}

impl std::error::Error for DpdkError {}

impl fmt::Display for DpdkError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            attempted,
            reason,
            errno,
            logged,
        } = self;
        write!(formatter, "cannot {attempted}: {reason} (errno {errno})")?;
        match logged {
            Some(line) => write!(formatter, "; DPDK says: {line}"),
            None => Ok(()),
        }
    }
}

/// For calls that return `-errno`.
pub(crate) fn check(code: c_int, attempted: impl FnOnce() -> String) -> Result<c_int, DpdkError> {
    if code < 0 {
        return Err(DpdkError::new(code.saturating_neg(), attempted()));
    }
    // What was logged belongs to a call that worked after all.
    drop(take_first_error());
    Ok(code)
}

/// For calls that return -1 and set `rte_errno`.
pub(crate) fn check_errno(
    code: c_int,
    attempted: impl FnOnce() -> String,
) -> Result<c_int, DpdkError> {
    let negative_errno = if code < 0 {
        errno().saturating_neg()
    } else {
        code
    };
    check(negative_errno, attempted)
}

/// For calls that return a null pointer and set `rte_errno`.
pub(crate) fn check_pointer<T>(
    pointer: *mut T,
    attempted: impl FnOnce() -> String,
) -> Result<NonNull<T>, DpdkError> {
    NonNull::new(pointer).ok_or_else(|| DpdkError::new(errno(), attempted()))
}

fn errno() -> i32 {
    // SAFETY: reads a thread-local integer; it has no precondition.
    unsafe { dpdk_sys::shim_errno() }
}

fn text_of(errno: i32) -> String {
    // SAFETY: takes any number and returns a string that is static or in a thread-local buffer,
    // which stays as it is until this thread calls it again: that is after the copy below.
    let text = unsafe { dpdk_sys::rte_strerror(errno) };
    if text.is_null() {
        return String::from("unknown error");
    }
    // SAFETY: not null (checked), NUL-terminated and unchanged during this block (above).
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::{check, check_pointer};

    #[test]
    fn an_error_says_what_was_attempted_and_why_not() {
        let error = check(-22, || String::from("start port net_null0")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot start port net_null0: Invalid argument (errno 22)"
        );
        assert_eq!(error.errno(), 22);
    }

    #[test]
    fn zero_and_counts_are_no_errors() {
        assert_eq!(check(7, String::new), Ok(7));
    }

    #[test]
    fn a_null_pointer_is_an_error() {
        let null = std::ptr::null_mut::<u8>();
        assert!(check_pointer(null, || String::from("make a pool")).is_err());
    }
}
