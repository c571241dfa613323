//! Keeps `net_tap` from using signals.
//!
//! That driver takes a real-time signal which the kernel sends to the process for every frame, and
//! looks for frames only after one. On a busy machine the signal waits for the thread it picked, up
//! to 4 ms; it interrupts system calls all over the process; and if signals pile up the kernel falls
//! back to `SIGIO`, which kills. With no signal to be had, the driver looks whenever it is polled.

use std::mem::MaybeUninit;
use std::ptr;

/// Ignores every real-time signal nobody has a use for; the driver takes those only that are still
/// at their default.
pub(crate) fn leave_none_to_net_tap() {
    for signal in libc::SIGRTMIN()..=libc::SIGRTMAX() {
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: `action` has room for the answer; no new action is given.
        let code = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
        if code != 0 {
            continue;
        }
        // SAFETY: a structure of numbers, pointers and options, valid when zero, and filled above.
        let action = unsafe { action.assume_init() };
        if action.sa_sigaction == libc::SIG_DFL {
            // SAFETY: ignoring a signal runs no code of ours when it comes.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
    }
}
