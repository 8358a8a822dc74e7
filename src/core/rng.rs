//! The counter-based generator every random number in curricle comes from.
//!
//! Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, *Parallel random numbers: as easy as 1, 2, 3*, SC 2011)
//! maps a 64-bit key and a 128-bit counter to 128 random bits. A draw is a pure function of
//! (seed, stream, index, block): nothing is stored, so a resumed run needs no generator state, two students can
//! share a stream, and a GPU kernel regenerates the same bits from the same four numbers.

/// What a stream of random bits is for. Streams never overlap: the purpose is part of the counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Purpose {
    /// Training samples.
    Data = 1,
    /// Held-out samples on which accuracy is measured.
    Evaluation = 2,
    /// Initial weights.
    Init = 3,
    /// The random support of a parity.
    Support = 4,
    /// Samples and random subsets used by probes.
    Probe = 5,
    /// Positions masked in masked prediction.
    Mask = 6,
    /// Dropped activations.
    Dropout = 7,
}

/// A stream of random bits: a purpose and a sub-stream of it (which arm, which tensor).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stream {
    /// What the bits are for.
    pub purpose: Purpose,
    /// Sub-stream, below 2^24.
    pub sub: u32,
}

impl Stream {
    /// The stream for `purpose`, sub-stream `sub`.
    ///
    /// # Panics
    /// If `sub` is 2^24 or more.
    #[inline]
    pub const fn new(purpose: Purpose, sub: u32) -> Self {
        assert!(sub < 1 << 24);
        Self { purpose, sub }
    }

    /// The 32-bit word this stream contributes to the counter.
    #[inline]
    pub const fn word(self) -> u32 {
        (self.purpose as u32) << 24 | self.sub
    }
}

const MULTIPLIER_0: u32 = 0xD251_1F53;
const MULTIPLIER_1: u32 = 0xCD9E_8D57;
const WEYL_0: u32 = 0x9E37_79B9;
const WEYL_1: u32 = 0xBB67_AE85;

/// One Philox 4x32-10 block: 128 bits from a key and a counter.
#[inline]
pub fn philox4x32(mut key: [u32; 2], mut counter: [u32; 4]) -> [u32; 4] {
    for _ in 0..10 {
        let p0 = u64::from(MULTIPLIER_0) * u64::from(counter[0]);
        let p1 = u64::from(MULTIPLIER_1) * u64::from(counter[2]);
        counter = [
            (p1 >> 32) as u32 ^ counter[1] ^ key[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ counter[3] ^ key[1],
            p0 as u32,
        ];
        key[0] = key[0].wrapping_add(WEYL_0);
        key[1] = key[1].wrapping_add(WEYL_1);
    }
    counter
}

/// 128 random bits: block `block` of item `index` of `stream` under `seed`.
///
/// The counter is (index low, index high, block, stream word); the key is (seed low, seed high).
#[inline]
pub fn bits(seed: u64, stream: Stream, index: u64, block: u32) -> [u32; 4] {
    philox4x32([seed as u32, (seed >> 32) as u32], [index as u32, (index >> 32) as u32, block, stream.word()])
}

/// A seed for one role of an experiment. Teacher and student must not draw their first weights from the same bits: with
/// equal d the student would start as a copy of the teacher's first neurons.
#[inline]
pub fn role_seed(seed: u64, role: u32) -> u64 {
    let words = bits(seed, Stream::new(Purpose::Init, 0xFF_FFFF), u64::from(role), 0);
    u64::from(words[0]) | u64::from(words[1]) << 32
}

/// A uniform number in [0, 1) with 24 random bits, exactly representable as f32.
#[inline]
pub fn unit_f32(word: u32) -> f32 {
    (word >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// A uniform integer in 0..`bound` by rejection, drawing blocks 0, 1, .. of item `index`.
///
/// # Panics
/// If `bound` is 0.
#[inline]
pub fn below(seed: u64, stream: Stream, index: u64, bound: u32) -> u32 {
    assert!(bound > 0);
    let limit = u32::MAX - u32::MAX % bound;
    for block in 0.. {
        for word in bits(seed, stream, index, block) {
            if word < limit {
                return word % bound;
            }
        }
    }
    unreachable!("the generator rejected 2^34 words in a row")
}

/// `count` distinct integers of 0..`n` in random order: the head of a Fisher-Yates shuffle, whose i-th choice is
/// item `first + i` of the stream.
///
/// # Panics
/// If `count` exceeds `n`.
pub fn distinct(seed: u64, stream: Stream, first: u64, count: usize, n: usize) -> Vec<usize> {
    assert!(count <= n);
    let mut items: Vec<usize> = (0..n).collect();
    for i in 0..count {
        let j = i + below(seed, stream, first + i as u64, (n - i) as u32) as usize;
        items.swap(i, j);
    }
    items.truncate(count);
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_matches_the_published_vectors() {
        // Known-answer file of the Random123 distribution.
        assert_eq!(philox4x32([0; 2], [0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox4x32([u32::MAX; 2], [u32::MAX; 4]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32([0xa409_3822, 0x299f_31d0], [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn distinct_draws_are_distinct_and_cover() {
        let stream = Stream::new(Purpose::Support, 0);
        let mut counts = [0u32; 10];
        for trial in 0..2000 {
            let drawn = distinct(trial, stream, 0, 3, 10);
            let mut sorted = drawn.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 3);
            drawn.iter().for_each(|&c| counts[c] += 1);
        }
        // Each coordinate is drawn 600 times in expectation; 5 standard deviations are 102.
        assert!(counts.iter().all(|&c| c.abs_diff(600) < 103), "{counts:?}");
    }
}
