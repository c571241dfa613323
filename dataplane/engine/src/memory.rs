//! The one place that sees raw memory: a mapping as a slice of cache lines made of atomics, and prefetch.
//!
//! A [`Line`] is eight `AtomicU64`: any bit pattern is a valid one, zeroed memory is a valid empty table, and sharing
//! lines between threads (or, for a file, processes) needs no further unsafe code anywhere in the engine.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

/// One cache line of eight atomic words.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Line(pub [AtomicU64; 8]);

impl Line {
    /// Which words have a high half that equals `wanted` under `mask`: a bit for each, the first word's the lowest.
    ///
    /// All eight words are looked at together; each is seen as a relaxed load would see it. A word that matters has to be
    /// loaded once more, with the order that its use needs.
    #[inline(always)]
    pub fn high_halves_equal(&self, mask: u32, wanted: u32) -> u32 {
        #[cfg(target_arch = "x86_64")]
        {
            let (mut mask, mut wanted) = (u64::from(mask), u64::from(wanted));
            // SAFETY: reads the 64 bytes of `self`, which are mapped and aligned to 64, and changes only the registers
            // named. Other threads may store to the words meanwhile: the processor reads each aligned quadword of an
            // aligned 16-byte load as a whole, so this is eight relaxed atomic loads to the memory model, which an
            // atomic store of another thread does not race with. SSE2 is part of x86-64.
            unsafe {
                core::arch::asm!(
                    "movd {m}, {mask:e}",
                    "movd {w}, {wanted:e}",
                    "pshufd {m}, {m}, 0",
                    "pshufd {w}, {w}, 0",
                    "movaps {a}, [{line}]",
                    "movaps {b}, [{line} + 32]",
                    "shufps {a}, [{line} + 16], 0xdd",
                    "shufps {b}, [{line} + 48], 0xdd",
                    "pand {a}, {m}",
                    "pand {b}, {m}",
                    "pcmpeqd {a}, {w}",
                    "pcmpeqd {b}, {w}",
                    "packssdw {a}, {b}",
                    "packsswb {a}, {a}",
                    "pmovmskb {wanted:e}, {a}",
                    line = in(reg) self,
                    mask = inout(reg) mask,
                    wanted = inout(reg) wanted,
                    m = out(xmm_reg) _,
                    w = out(xmm_reg) _,
                    a = out(xmm_reg) _,
                    b = out(xmm_reg) _,
                    options(readonly, nostack, preserves_flags),
                );
            }
            let _ = mask;
            // The eight results stand twice, side by side.
            #[allow(clippy::cast_possible_truncation)] // eight bits are meant
            let places = (wanted & 0xff) as u32;
            places
        }
        #[cfg(not(target_arch = "x86_64"))]
        self.high_halves_equal_one_by_one(mask, wanted)
    }

    /// The same, word by word.
    #[cfg(any(test, not(target_arch = "x86_64")))]
    fn high_halves_equal_one_by_one(&self, mask: u32, wanted: u32) -> u32 {
        use std::sync::atomic::Ordering::Relaxed;
        let mut places = 0;
        for (place, word) in self.0.iter().enumerate() {
            let high = word.load(Relaxed) >> 32;
            places |= u32::from(high & u64::from(mask) == u64::from(wanted)) << place;
        }
        places
    }
}

/// Bytes of a [`Line`].
pub const LINE_BYTES: usize = 64;

const _: () = assert!(size_of::<Line>() == LINE_BYTES && align_of::<Line>() == LINE_BYTES);

/// Cache lines of a mapping, zero where never written: all of it, or a part. The mapping goes with the last part.
#[derive(Debug, Clone)]
pub struct Memory {
    base: NonNull<Line>,
    lines: usize,
    mapping: Arc<Mapping>,
}

/// What is unmapped on drop.
#[derive(Debug)]
struct Mapping {
    base: NonNull<Line>,
    bytes: usize,
}

// SAFETY: the lines are mapped for as long as `mapping` lives and are only reached through `&[Line]`, whose every field
// is an atomic; nothing about them is bound to the thread that mapped them.
unsafe impl Send for Memory {}
// SAFETY: as above; a shared reference gives only shared references to atomics.
unsafe impl Sync for Memory {}
// SAFETY: an address and a length; unmapping works from any thread.
unsafe impl Send for Mapping {}
// SAFETY: a shared reference to it gives nothing.
unsafe impl Sync for Mapping {}

impl Memory {
    /// Private zeroed memory for `lines` lines in normal pages, or in huge pages of 2 MiB.
    ///
    /// # Errors
    /// The system's, when there is not that much memory (or there are not that many huge pages).
    pub fn anonymous(lines: usize, huge_pages: bool) -> io::Result<Self> {
        let bytes = mapping_bytes(lines, huge_pages)?;
        let flags = MapFlags::PRIVATE
            | if huge_pages {
                MapFlags::HUGETLB
            } else {
                MapFlags::NORESERVE
            };
        // SAFETY: a null hint lets the kernel choose a free range, so no existing mapping is replaced.
        let base = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                flags,
            )
        }?;
        Self::from_base(base, lines, bytes)
    }

    /// The first `lines` lines of a file on tmpfs or hugetlbfs, shared with whoever maps it next. The file must be at
    /// least that long and must not be cut shorter while mapped (it lies in the daemon's locked state directory). All of
    /// its pages are mapped at once, so that no packet waits for one.
    ///
    /// # Errors
    /// The system's.
    pub fn file(file: &File, lines: usize, huge_pages: bool) -> io::Result<Self> {
        let bytes = mapping_bytes(lines, huge_pages)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a null hint lets the kernel choose a free range, so no existing mapping is replaced.
        let base = unsafe {
            mmap(
                ptr::null_mut(),
                bytes,
                protection,
                MapFlags::SHARED,
                file,
                0,
            )
        }?;
        let memory = Self::from_base(base, lines, bytes)?;
        memory.mapping.populate();
        Ok(memory)
    }

    fn from_base(base: *mut core::ffi::c_void, lines: usize, bytes: usize) -> io::Result<Self> {
        let base = NonNull::new(base.cast::<Line>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapping = Arc::new(Mapping { base, bytes });
        Ok(Self {
            base,
            lines,
            mapping,
        })
    }

    /// A part of it, by line numbers; none when it is not all there.
    pub fn part(&self, range: Range<usize>) -> Option<Self> {
        let part = self.lines().get(range)?;
        Some(Self {
            base: NonNull::from(part).cast(),
            lines: part.len(),
            mapping: Arc::clone(&self.mapping),
        })
    }

    /// All lines.
    #[inline]
    pub fn lines(&self) -> &[Line] {
        // SAFETY: `base` is aligned for Line (it is page-aligned, or a Line of a slice made here), and `lines` lines from it
        // lie within the mapping, which is readable and writable for as long as `mapping` lives; any content is a valid
        // Line; nobody makes a `&mut` to it.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.lines) }
    }
}

/// Memory that a thread is worth starting for.
const POPULATE_BYTES: usize = 64 << 20;

impl Mapping {
    /// Maps all pages, on all CPUs this process may use. Where the kernel cannot (before 5.14), they come as they are used.
    fn populate(&self) {
        let cpus = thread::available_parallelism().map_or(1, NonZero::get);
        let parts = self.bytes.div_ceil(POPULATE_BYTES).clamp(1, cpus);
        let each = self.bytes.div_ceil(parts).next_multiple_of(2 << 20);
        thread::scope(|scope| {
            for start in (each..self.bytes).step_by(each) {
                // Without a thread, as without the kernel's help.
                let _ = thread::Builder::new()
                    .spawn_scoped(scope, move || self.populate_part(start, each));
            }
            self.populate_part(0, each);
        });
    }

    fn populate_part(&self, start: usize, bytes: usize) {
        let bytes = bytes.min(self.bytes.saturating_sub(start));
        let base = self.base.as_ptr().cast::<u8>().wrapping_add(start);
        // SAFETY: `base..base + bytes` lies in the mapping, which `self` keeps; its content stays what it is.
        // A failure leaves pages unmapped, which is how they were.
        let _ = unsafe { madvise(base.cast(), bytes, Advice::LinuxPopulateWrite) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base..base + bytes` is exactly what mmap returned, and every slice of it borrowed a `Memory` that kept
        // `self` alive.
        // A failure leaks the mapping, which is sound.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// The length of the mapping: whole pages.
fn mapping_bytes(lines: usize, huge_pages: bool) -> io::Result<usize> {
    let page: usize = if huge_pages { 2 << 20 } else { 4 << 10 };
    lines
        .checked_mul(LINE_BYTES)
        .and_then(|bytes| bytes.max(1).checked_next_multiple_of(page))
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Asks for the cache line of `target` ahead of a write to it.
#[inline(always)]
pub fn prefetch_to_write<T: ?Sized>(target: &T) {
    let address = ptr::from_ref(target).cast::<i8>();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint: it reads and writes nothing and cannot fault, whatever the address. A 64-bit processor
    // that has no PREFETCHW takes the instruction for a no-op.
    unsafe {
        core::arch::asm!("prefetchw [{}]", in(reg) address, options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Asks for the cache line of `target` ahead of its use.
#[inline(always)]
pub fn prefetch<T: ?Sized>(target: &T) {
    let address = ptr::from_ref(target).cast::<i8>();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint: it reads and writes nothing and cannot fault, whatever the address.
    unsafe {
        core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(address);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn fresh_memory_is_zero_and_writable() {
        let memory = Memory::anonymous(1000, false).unwrap();
        assert!(
            memory
                .lines()
                .iter()
                .all(|line| line.0.iter().all(|word| word.load(Relaxed) == 0))
        );
        memory.lines()[999].0[7].store(7, Relaxed);
        assert_eq!(memory.lines()[999].0[7].load(Relaxed), 7);
        prefetch(&memory.lines()[0]);
    }

    #[test]
    fn a_part_is_the_same_memory_and_keeps_it() {
        let memory = Memory::anonymous(100, false).unwrap();
        let part = memory.part(90..100).unwrap();
        memory.lines()[99].0[0].store(5, Relaxed);
        assert!(memory.part(90..101).is_none());
        drop(memory);
        assert_eq!(part.lines().len(), 10);
        assert_eq!(part.lines()[9].0[0].load(Relaxed), 5);
    }

    #[test]
    fn a_file_keeps_what_was_written() {
        let path = std::env::temp_dir().join(format!("pollux-memory-{}", std::process::id()));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        file.set_len(4096).unwrap();
        Memory::file(&file, 64, false).unwrap().lines()[3].0[1].store(42, Relaxed);
        assert_eq!(
            Memory::file(&file, 64, false).unwrap().lines()[3].0[1].load(Relaxed),
            42
        );
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn words_are_found_by_their_high_halves() {
        let line = Line(std::array::from_fn(|_| AtomicU64::new(0)));
        let mut state = 1_u64;
        for round in 0..1000 {
            for word in &line.0 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(round);
                // Few values, so that some are equal.
                word.store((state >> 62) << 32 | state & 0xffff_ffff, Relaxed);
            }
            let places = line.high_halves_equal(1, 1);
            assert_eq!(places, line.high_halves_equal_one_by_one(1, 1));
            assert_eq!(
                line.high_halves_equal(u32::MAX, 2),
                line.high_halves_equal_one_by_one(u32::MAX, 2)
            );
        }
        assert_eq!(line.high_halves_equal(0, 0), 0xff);
    }

    #[test]
    fn absurd_sizes_are_errors() {
        assert!(Memory::anonymous(usize::MAX, false).is_err());
    }
}
