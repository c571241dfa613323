//! Bytes read as decisions. When they end, every further decision is 0, so that any prefix of an input is an input.

/// The rest of the input.
#[derive(Debug)]
pub struct Choices<'d>(&'d [u8]);

impl<'d> Choices<'d> {
    /// Decisions from these bytes.
    pub fn new(data: &'d [u8]) -> Self {
        Self(data)
    }

    /// Whether there are none left.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// A number of 16 bits.
    pub fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// One of `count` possibilities.
    pub fn below(&mut self, count: u8) -> u8 {
        self.byte() % count
    }

    /// Yes once in `times`, roughly.
    pub fn one_in(&mut self, times: u8) -> bool {
        // Never when the input has ended: the plain case.
        !self.is_over() && self.below(times) == times - 1
    }

    /// One of these.
    ///
    /// # Panics
    /// When there are none, or more than 255.
    pub fn of<T: Copy, const N: usize>(&mut self, all: [T; N]) -> T {
        all[usize::from(self.below(u8::try_from(N).unwrap()))]
    }

    /// Up to so many bytes, fewer at the end of the input.
    pub fn bytes(&mut self, count: usize) -> &'d [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Random bytes from a seed: splitmix64.
#[derive(Debug, Clone)]
pub struct Seeded(pub u64);

impl Seeded {
    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `count`, which is not 0.
    pub fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.draw() % count as u64).unwrap()
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.draw().to_le_bytes())
            .flatten()
            .take(count)
            .collect()
    }
}
