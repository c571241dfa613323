//! The Internet checksum: in full (RFC 1071) and incrementally (RFC 1624).
//!
//! A [`Sum`] is a one's-complement sum in progress over big-endian 16-bit words, not folded; [`Sum::finish`] makes of
//! it what stands in a header. A header's checksum is mended with [`update`] from the sum of what went and the sum of
//! what came, without reading the rest of the packet.

/// A one's-complement sum in progress. At most 2^32 words may be added before [`Sum::finish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum(u64);

/// Folds a sum to 16 bits.
#[inline]
pub fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    #[allow(clippy::cast_possible_truncation)] // folded: it fits
    let folded = sum as u16;
    folded
}

impl Sum {
    /// The sum over bytes; an odd one at the end counts as the high half of a word.
    pub fn of(bytes: &[u8]) -> Self {
        let (chunks, rest) = bytes.as_chunks::<4>();
        let mut sum: u64 = chunks
            .iter()
            .map(|chunk| u64::from(u32::from_be_bytes(*chunk)))
            .sum();
        let mut last = [0; 4];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        sum += u64::from(u32::from_be_bytes(last));
        Self(sum)
    }

    /// Adds one big-endian word given as a host integer.
    #[inline]
    #[must_use]
    pub fn add16(self, word: u16) -> Self {
        Self(self.0 + u64::from(word))
    }

    /// Adds two words at once: an IPv4 address, a pair of ports.
    #[inline]
    #[must_use]
    pub fn add32(self, words: u32) -> Self {
        Self(self.0 + u64::from(words))
    }

    /// Adds four words at once: half an IPv6 address.
    #[inline]
    #[must_use]
    pub fn add64(self, words: u64) -> Self {
        Self(self.0 + (words >> 32) + (words & 0xffff_ffff))
    }

    /// Adds another sum.
    #[inline]
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The checksum that belongs in a header whose checksum field was summed as 0.
    #[inline]
    pub fn finish(self) -> u16 {
        !fold(self.0)
    }
}

/// What replacing some words does to every checksum that covers them: a sum of a few 16-bit words, not folded.
///
/// All words are taken as they stand in memory and summed in the machine's byte order, which only swaps the bytes of the
/// sum (RFC 1071 2(B)): no byte is swapped on the way in or out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change(u32);

impl Change {
    /// An IPv4 address gives way to another.
    #[inline(always)]
    pub fn of_ipv4(old: [u8; 4], new: [u8; 4]) -> Self {
        let (old, new) = (!u32::from_ne_bytes(old), u32::from_ne_bytes(new));
        Self((old >> 16) + (old & 0xffff) + (new >> 16) + (new & 0xffff))
    }

    /// An IPv6 address gives way to another.
    #[inline(always)]
    pub fn of_ipv6(old: [u8; 16], new: [u8; 16]) -> Self {
        let sum = |address: [u8; 16]| {
            let (words, _) = address.as_chunks::<4>();
            let words = words.iter().map(|word| u32::from_ne_bytes(*word));
            words.map(u64::from).sum::<u64>()
        };
        Self(u32::from(!fold(sum(old))) + u32::from(fold(sum(new))))
    }

    /// The checksum after this change and that of one more word.
    #[inline(always)]
    #[must_use]
    pub fn apply(self, checksum: [u8; 2], old: [u8; 2], new: [u8; 2]) -> [u8; 2] {
        let word = |bytes| u32::from(u16::from_ne_bytes(bytes));
        let gone = |bytes| u32::from(!u16::from_ne_bytes(bytes));
        let sum = self.0 + gone(checksum) + gone(old) + word(new);
        // At most seven words of 16 bits: two folds are enough.
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        #[allow(clippy::cast_possible_truncation)] // folded: it fits
        let folded = sum as u16;
        (!folded).to_ne_bytes()
    }
}

/// A header's checksum after the words summed in `old` were replaced by those in `new`: `HC' = ~(~HC + ~m + m')`.
#[inline]
#[must_use]
pub fn update(checksum: u16, old: Sum, new: Sum) -> u16 {
    !fold(u64::from(!checksum) + u64::from(!fold(old.0)) + new.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_sum_of_rfc_1071() {
        assert_eq!(
            Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).finish(),
            !0xddf2
        );
        assert_eq!(Sum::of(&[0x12, 0x34, 0x56]).finish(), !(0x1234 + 0x5600));
    }

    proptest! {
        #[test]
        fn incremental_equals_full(mut bytes in prop::collection::vec(any::<u8>(), 24..96), new in any::<[u8; 6]>(), at in 0usize..8) {
            let at = at * 2;
            let before = Sum::of(&bytes).finish();
            let old = Sum::of(&bytes[at..at + 6]);
            bytes[at..at + 6].copy_from_slice(&new);
            let updated = update(before, old, Sum::of(&new));
            let full = Sum::of(&bytes).finish();
            // 0 and 0xffff are the same number in one's complement; only an all-zero packet has the other zero.
            prop_assert!(updated == full || (full == 0xffff && updated == 0) || (full == 0 && updated == 0xffff));
        }

        #[test]
        fn an_ipv6_change_equals_an_update(checksum: u16, old: [u8; 16], new: [u8; 16], old_word: u16, new_word: u16) {
            let changed = Change::of_ipv6(old, new).apply(
                checksum.to_be_bytes(),
                old_word.to_be_bytes(),
                new_word.to_be_bytes(),
            );
            let (old, new) = (Sum::of(&old), Sum::of(&new));
            let updated = update(checksum, old.add16(old_word), new.add16(new_word));
            prop_assert_eq!(u16::from_be_bytes(changed) % 0xffff, updated % 0xffff);
        }

        #[test]
        fn an_ipv4_change_equals_an_update(checksum: u16, old: u32, new: u32, old_word: u16, new_word: u16) {
            let changed = Change::of_ipv4(old.to_be_bytes(), new.to_be_bytes()).apply(
                checksum.to_be_bytes(),
                old_word.to_be_bytes(),
                new_word.to_be_bytes(),
            );
            let (old, new) = (Sum::default().add32(old), Sum::default().add32(new));
            let updated = update(checksum, old.add16(old_word), new.add16(new_word));
            prop_assert_eq!(u16::from_be_bytes(changed) % 0xffff, updated % 0xffff);
        }

        #[test]
        fn a_finished_sum_verifies(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let checksum = Sum::of(&bytes).finish();
            prop_assert_eq!(Sum::of(&bytes).add16(checksum).finish(), 0);
        }
    }
}
