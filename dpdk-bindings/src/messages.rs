//! DPDK's log goes to the `log` crate (target `dpdk`), and the first error a call logs goes into
//! the error it returns: a number like `EFAULT` says little, the line a driver logged before says
//! what is wrong.

use std::cell::RefCell;
use std::ffi::{c_char, c_int};

use log::Level;

/// What drivers call an error or a warning though nothing is wrong, and why not.
const HARMLESS: &[&str] = &[
    // `net_tap` offers flow rules, if the kernel has the queueing discipline `multiq`. We use none.
    "Specified qdisc kind is unknown",
    "Could not add multiq qdisc",
    "failed to create multiq qdisc",
    "Disabling rte flow support",
    // `net_tap` tells other processes to look at the same port. There are none.
    "Failed to send start req to secondary",
    // `net_tap` is to use no signal: see the module `signals`.
    "All rt-signals are in use",
    // Pages of 1 GB are one of two sizes, and nobody needs both.
    "No free 1048576 kB hugepages reported",
];

thread_local! {
    /// The first error DPDK logged on this thread since it was last asked for. Calls log on the
    /// thread that makes them.
    static FIRST_ERROR: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Makes [`on_message`] DPDK's log. Before EAL starts, which has the most to say.
pub(crate) fn redirect() {
    // SAFETY: `on_message` is a function that takes what the shim gives it and is there for ever.
    let code = unsafe { dpdk_sys::shim_log_to(Some(on_message)) };
    if code < 0 {
        log::warn!("DPDK's log stays on standard error");
    }
}

/// The first error DPDK logged on this thread since the last call, if any.
pub(crate) fn take_first_error() -> Option<String> {
    FIRST_ERROR.with(|first| {
        first
            .try_borrow_mut()
            .ok()
            .and_then(|mut first| first.take())
    })
}

/// Called by DPDK with one or more lines of text, on any thread.
extern "C" fn on_message(text: *const c_char, length: usize, level: c_int) {
    if text.is_null() {
        return;
    }
    // SAFETY: the shim gives `length` bytes that stay as they are during the call; not null
    // (checked).
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) };
    let level = level_of(u32::try_from(level).unwrap_or(dpdk_sys::SHIM_LOG_ERR));
    for line in String::from_utf8_lossy(bytes)
        .lines()
        .filter(|line| !line.trim().is_empty())
    {
        let harmless = HARMLESS.iter().any(|text| line.contains(text));
        let level = if harmless { Level::Debug } else { level };
        log::log!(target: "dpdk", level, "{line}");
        if level == Level::Error {
            remember(line);
        }
    }
}

fn remember(line: &str) {
    // Not reachable while a thread ends; there is nobody to tell then.
    let _ = FIRST_ERROR.try_with(|first| {
        if let Ok(mut first) = first.try_borrow_mut() {
            first.get_or_insert_with(|| line.trim().to_owned());
        }
    });
}

fn level_of(level: u32) -> Level {
    if level <= dpdk_sys::SHIM_LOG_ERR {
        Level::Error
    } else if level <= dpdk_sys::SHIM_LOG_WARNING {
        Level::Warn
    } else if level <= dpdk_sys::SHIM_LOG_INFO {
        Level::Info
    } else {
        Level::Debug
    }
}
