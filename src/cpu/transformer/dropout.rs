//! Dropout masks from the counter-based generator.

use crate::simd::{LANES, Simd};
use curricle_core::model::transformer::{DropoutSite, dropout_threshold};
use curricle_core::rng::{Stream, philox4x32};

/// The masks of one site in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mask {
    seed: u64,
    stream: Stream,
    threshold: u32,
    /// What kept values are multiplied by, 1 / (1 - p).
    pub scale: f32,
}

impl Mask {
    /// The mask of a site, `None` if nothing is dropped there.
    pub fn new(seed: Option<u64>, site: DropoutSite, p: f32) -> Option<Self> {
        let seed = seed.filter(|_| p > 0.0)?;
        Some(Self { seed, stream: site.stream(), threshold: dropout_threshold(p), scale: 1.0 / (1.0 - p) })
    }
}

/// Ten rounds of Philox on sixteen consecutive blocks at once.
#[inline(always)]
fn philox_lanes(seed: u64, index: u64, first_block: u32, stream: u32) -> [[u32; LANES]; 4] {
    let mut c0 = [index as u32; LANES];
    let mut c1 = [(index >> 32) as u32; LANES];
    let mut c2: [u32; LANES] = std::array::from_fn(|i| first_block.wrapping_add(i as u32));
    let mut c3 = [stream; LANES];
    let mut key = [seed as u32, (seed >> 32) as u32];
    for _ in 0..10 {
        for i in 0..LANES {
            let p0 = u64::from(c0[i]) * 0xD251_1F53;
            let p1 = u64::from(c2[i]) * 0xCD9E_8D57;
            let (n0, n2) = ((p1 >> 32) as u32 ^ c1[i] ^ key[0], (p0 >> 32) as u32 ^ c3[i] ^ key[1]);
            (c0[i], c1[i], c2[i], c3[i]) = (n0, p1 as u32, n2, p0 as u32);
        }
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    [c0, c1, c2, c3]
}

/// Factors (0 or 1 / (1 - p)) of elements first, first + 1, .. of a sequence, by its running number.
#[inline(always)]
pub fn fill_body<S: Simd>(mask: Mask, sequence: u64, first: usize, out: &mut [f32]) {
    let factor = |word: u32| if word < mask.threshold { 0.0 } else { mask.scale };
    // Elements before the first whole block of four.
    let head = (first.next_multiple_of(4) - first).min(out.len());
    let single = |element: usize| {
        let counter = [sequence as u32, (sequence >> 32) as u32, (element / 4) as u32, mask.stream.word()];
        philox4x32([mask.seed as u32, (mask.seed >> 32) as u32], counter)[element % 4]
    };
    for (i, o) in out[..head].iter_mut().enumerate() {
        *o = factor(single(first + i));
    }
    let mut block = (first + head) / 4;
    for out in out[head..].chunks_mut(4 * LANES) {
        let words = philox_lanes(mask.seed, sequence, block as u32, mask.stream.word());
        let mut factors = [0.0f32; 4 * LANES];
        for lane in 0..LANES {
            for word in 0..4 {
                factors[4 * lane + word] = factor(words[word][lane]);
            }
        }
        out.copy_from_slice(&factors[..out.len()]);
        block += LANES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::simd::dispatch;
    use curricle_core::rng;

    dispatch! {
        fn fill = fill_body(mask: Mask, sequence: u64, first: usize, out: &mut [f32])
    }

    #[test]
    fn masks_are_those_of_the_contract() {
        let p = 0.3f32;
        for site in [DropoutSite::Embedding, DropoutSite::Attention(2), DropoutSite::MlpOutput(1)] {
            let mask = Mask::new(Some(77), site, p).unwrap();
            let number = match site {
                DropoutSite::Embedding => 0,
                DropoutSite::Attention(l) => 4 * l + 1,
                DropoutSite::AttentionOutput(l) => 4 * l + 2,
                DropoutSite::MlpOutput(l) => 4 * l + 3,
            };
            let stream = Stream::new(rng::Purpose::Dropout, number as u32);
            for (first, len) in [(0, 200), (3, 1), (5, 131), (101, 64)] {
                for isa in Isa::available() {
                    let mut out = vec![0.0; len];
                    fill(isa, mask, 1 << 33 | 5, first, &mut out);
                    for (i, factor) in out.iter().enumerate() {
                        let e = first + i;
                        let word = rng::bits(77, stream, 1 << 33 | 5, (e / 4) as u32)[e % 4];
                        let kept = word >= (f64::from(p) * 4_294_967_296.0) as u32;
                        assert_eq!(*factor, if kept { 1.0 / (1.0 - p) } else { 0.0 }, "element {e}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_dropped_fraction_is_p() {
        for p in [0.1f32, 0.5] {
            let mask = Mask::new(Some(1), DropoutSite::MlpOutput(0), p).unwrap();
            let mut out = vec![0.0; 100_000];
            fill(Isa::detect(), mask, 3, 0, &mut out);
            let dropped = out.iter().filter(|f| **f == 0.0).count() as f64 / 1e5;
            // Five standard deviations of a binomial fraction.
            let deviation = (f64::from(p) * (1.0 - f64::from(p)) / 1e5).sqrt();
            assert!((dropped - f64::from(p)).abs() < 5.0 * deviation, "{dropped}");
            // Neighbours are independent: both dropped with probability p^2.
            let both = out.windows(2).filter(|w| w[0] + w[1] == 0.0).count() as f64 / 1e5;
            let expected = f64::from(p) * f64::from(p);
            assert!((both - expected).abs() < 8.0 * (expected / 1e5).sqrt(), "{both}");
        }
        assert_eq!(Mask::new(Some(1), DropoutSite::Embedding, 0.0), None);
        assert_eq!(Mask::new(None, DropoutSite::Embedding, 0.5), None);
    }
}
