//! Time as the engine sees it: a coarse tick that the caller passes in. The engine reads no clock.

/// Ticks in a second. Linux' timers run at 100 Hz on the kernels Pollux is compared with.
pub const TICKS_PER_SECOND: u32 = 100;

/// A moment, in hundredths of a second since some start; wraps after 497 days, compared across the wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Tick(pub u32);

impl Tick {
    /// The tick of a monotonic clock's reading.
    pub fn from_duration(since_start: std::time::Duration) -> Self {
        let ticks = since_start.as_millis() / u128::from(1000 / TICKS_PER_SECOND);
        #[allow(clippy::cast_possible_truncation)] // wrapping is the type's arithmetic
        Self(ticks as u32)
    }

    /// The moment `ticks` later.
    #[inline]
    #[must_use]
    pub fn after(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }

    /// Ticks from `self` to `later`; negative when `later` is before.
    #[inline]
    pub fn until(self, later: Self) -> i32 {
        later.0.wrapping_sub(self.0).cast_signed()
    }

    /// Whether this moment is at or before `now`.
    #[inline]
    pub fn has_passed(self, now: Self) -> bool {
        self.until(now) >= 0
    }
}

/// A moment in microseconds, for times that a tick is too coarse for; wraps after 71 minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Microsecond(pub u32);

impl Microsecond {
    /// The microsecond of a monotonic clock's reading, nanoseconds.
    #[inline]
    pub fn from_nanoseconds(nanoseconds: u64) -> Self {
        #[allow(clippy::cast_possible_truncation)] // wrapping is the type's arithmetic
        Self((nanoseconds / 1000) as u32)
    }

    /// Microseconds from `earlier` to this moment, if they are less than half of what the type can tell apart.
    #[inline]
    pub fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

/// How a monotonic clock goes with the time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WallClock {
    /// What the monotonic clock reads now, nanoseconds.
    pub now_ns: u64,
    /// What the time of day is ahead of it, nanoseconds since 1970 less its reading; wraps.
    pub ahead_ns: u64,
}

impl WallClock {
    const NANOSECONDS_PER_MILLISECOND: u64 = 1_000_000;
    const MILLISECONDS_PER_DAY: u64 = 86_400_000;

    /// Milliseconds since midnight UT, as IP timestamps have them (RFC 791).
    pub fn milliseconds_of_day(self) -> u32 {
        let now = self.now_ns.wrapping_add(self.ahead_ns) / Self::NANOSECONDS_PER_MILLISECOND;
        #[allow(clippy::cast_possible_truncation)] // less than a day
        let milliseconds = (now % Self::MILLISECONDS_PER_DAY) as u32;
        milliseconds
    }
}

/// Seconds as ticks.
pub const fn seconds(seconds: u32) -> u32 {
    seconds * TICKS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_begins_at_midnight() {
        let at = |now_ns, ahead_ns| WallClock { now_ns, ahead_ns }.milliseconds_of_day();
        assert_eq!(at(5_999_999, 0), 5);
        assert_eq!(at(1_000_000, 86_400_000_000_000), 1);
        // 2026-11-26 17:48:00 UT.
        assert_eq!(at(0, 1_795_715_280_000_000_000), 64_080_000);
        assert_eq!(at(1_000_000, 0_u64.wrapping_sub(1_000_000)), 0);
    }

    #[test]
    fn order_holds_across_the_wrap() {
        let before = Tick(u32::MAX - 5);
        let after = before.after(10);
        assert!(before.has_passed(after) && !after.has_passed(before));
        assert_eq!(before.until(after), 10);
        assert_eq!(after.until(before), -10);
    }
}
