//! Bit-sliced kernels: which samples activate a sign neuron, and the signed sums of its active samples.
//!
//! A column of 64 words holds one coordinate of 4096 samples. The number of disagreements of `w` and `x` is
//! added up in vertical counters (Harley-Seal: eight columns cost seven carry-save adders), preset so that
//! the top plane is the comparison with the threshold; the sums are population counts. All in integers: every
//! instruction set gives the same numbers.

use super::samples::{Block, WORDS};

/// Words handled together: one AVX-512 register.
const LANES: usize = 8;
type Lane = [u64; LANES];
/// Planes above the "eights": enough for d < 2^20.
const HIGH: usize = 18;

/// A neuron with sign weights: coordinate `j` flips when `w_j = -1`.
pub(crate) struct SignNeuron {
    pub flips: Vec<u64>,
    /// Largest number of disagreements at which it is active; `None`: never.
    pub allowed: Option<usize>,
}

/// Sums of one neuron over one block.
pub(crate) struct NeuronSums<'a> {
    pub active: &'a mut u64,
    pub sums: &'a mut [i64],
}

/// Adds `sum_s y x_j 1[active]` for every coordinate, and the number of active samples. `agree[j]` holds the
/// bits of `y x_j`.
pub(crate) fn signed_sums(
    block: &Block,
    valid: &[u64; WORDS],
    agree: &[[u64; WORDS]],
    neuron: &SignNeuron,
    out: NeuronSums<'_>,
) {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512() {
            // SAFETY: the features were detected.
            return unsafe { signed_sums_avx512(block, valid, agree, neuron, out) };
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("popcnt") {
            // SAFETY: the features were detected.
            return unsafe { signed_sums_avx2(block, valid, agree, neuron, out) };
        }
    }
    signed_sums_portable(block, valid, agree, neuron, out);
}

/// Bits of the active samples.
pub(crate) fn active(block: &Block, valid: &[u64; WORDS], neuron: &SignNeuron) -> [u64; WORDS] {
    #[cfg(target_arch = "x86_64")]
    {
        if has_avx512() {
            // SAFETY: the features were detected.
            return unsafe { active_avx512(block, valid, neuron) };
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("popcnt") {
            // SAFETY: the features were detected.
            return unsafe { active_avx2(block, valid, neuron) };
        }
    }
    active_generic(block, valid, neuron)
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512vpopcntdq")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vpopcntdq,avx512bw,avx512vl,avx512dq,popcnt")]
fn signed_sums_avx512(b: &Block, v: &[u64; WORDS], a: &[[u64; WORDS]], n: &SignNeuron, o: NeuronSums<'_>) {
    signed_sums_generic(b, v, a, n, o);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vpopcntdq,avx512bw,avx512vl,avx512dq,popcnt")]
fn active_avx512(b: &Block, v: &[u64; WORDS], n: &SignNeuron) -> [u64; WORDS] {
    active_generic(b, v, n)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn signed_sums_avx2(b: &Block, v: &[u64; WORDS], a: &[[u64; WORDS]], n: &SignNeuron, o: NeuronSums<'_>) {
    signed_sums_generic(b, v, a, n, o);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn active_avx2(b: &Block, v: &[u64; WORDS], n: &SignNeuron) -> [u64; WORDS] {
    active_generic(b, v, n)
}

fn signed_sums_portable(b: &Block, v: &[u64; WORDS], a: &[[u64; WORDS]], n: &SignNeuron, o: NeuronSums<'_>) {
    signed_sums_generic(b, v, a, n, o);
}

#[inline(always)]
fn signed_sums_generic(
    block: &Block,
    valid: &[u64; WORDS],
    agree: &[[u64; WORDS]],
    neuron: &SignNeuron,
    out: NeuronSums<'_>,
) {
    let active = active_generic(block, valid, neuron);
    let total: u64 = active.iter().map(|w| u64::from(w.count_ones())).sum();
    *out.active += total;
    for (sum, agree) in out.sums.iter_mut().zip(agree) {
        let mut counts = [0u64; LANES];
        for (a, z) in active.as_chunks::<LANES>().0.iter().zip(agree.as_chunks::<LANES>().0) {
            for l in 0..LANES {
                counts[l] += u64::from((a[l] & z[l]).count_ones());
            }
        }
        let negative: u64 = counts.iter().sum();
        *sum += total as i64 - 2 * negative as i64;
    }
}

#[inline(always)]
fn active_generic(block: &Block, valid: &[u64; WORDS], neuron: &SignNeuron) -> [u64; WORDS] {
    let mut result = [0u64; WORDS];
    let Some(allowed) = neuron.allowed else {
        return result;
    };
    let d = block.d;
    if allowed >= d {
        return *valid;
    }
    // `planes` bits hold 0..=d; counting starts at 2^planes - 1 - allowed, so the next plane is set iff count
    // > allowed.
    let planes = (usize::BITS - d.leading_zeros()).max(3) as usize;
    let start = (1usize << planes) - 1 - allowed;
    let preset = |bit: usize| {
        if start >> bit & 1 == 1 { [!0u64; LANES] } else { [0u64; LANES] }
    };
    let chunk = |j: usize, c: usize| -> Lane {
        let words = &block.columns[j].as_chunks::<LANES>().0[c];
        let flip = neuron.flips[j];
        std::array::from_fn(|l| words[l] ^ flip)
    };
    for c in 0..WORDS / LANES {
        let (mut ones, mut twos, mut fours) = (preset(0), preset(1), preset(2));
        let mut high = [[0u64; LANES]; HIGH];
        for (p, plane) in high.iter_mut().enumerate().take(planes + 1 - 3) {
            *plane = preset(p + 3);
        }
        let mut j = 0;
        while j + 8 <= d {
            let (t1, a) = add(ones, chunk(j, c), chunk(j + 1, c));
            let (t2, b) = add(a, chunk(j + 2, c), chunk(j + 3, c));
            let (f1, t) = add(twos, t1, t2);
            let (t3, a) = add(b, chunk(j + 4, c), chunk(j + 5, c));
            let (t4, o) = add(a, chunk(j + 6, c), chunk(j + 7, c));
            ones = o;
            let (f2, t) = add(t, t3, t4);
            twos = t;
            let (eights, f) = add(fours, f1, f2);
            fours = f;
            carry_into(&mut high[..planes - 2], eights);
            j += 8;
        }
        while j < d {
            let (carry, o) = half(ones, chunk(j, c));
            ones = o;
            let (carry, t) = half(twos, carry);
            twos = t;
            let (carry, f) = half(fours, carry);
            fours = f;
            carry_into(&mut high[..planes - 2], carry);
            j += 1;
        }
        let inactive = high[planes - 3];
        for l in 0..LANES {
            result[c * LANES + l] = !inactive[l] & valid[c * LANES + l];
        }
    }
    result
}

/// Full adder: (carry, sum).
#[inline(always)]
fn add(a: Lane, b: Lane, c: Lane) -> (Lane, Lane) {
    (
        std::array::from_fn(|l| (a[l] & b[l]) | (c[l] & (a[l] ^ b[l]))),
        std::array::from_fn(|l| a[l] ^ b[l] ^ c[l]),
    )
}

/// Half adder: (carry, sum).
#[inline(always)]
fn half(a: Lane, b: Lane) -> (Lane, Lane) {
    (std::array::from_fn(|l| a[l] & b[l]), std::array::from_fn(|l| a[l] ^ b[l]))
}

#[inline(always)]
fn carry_into(planes: &mut [Lane], mut carry: Lane) {
    for plane in planes {
        let (next, sum) = half(*plane, carry);
        *plane = sum;
        carry = next;
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{BLOCK, Stream, generator};
    use super::*;
    use crate::threshold::largest_count;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn kernels_match_the_definition(d in 1usize..150, bias in -4.0f64..4.0, samples in 1usize..=BLOCK, seed in 0u64..1000) {
            let mut rng = generator(seed, 0, Stream::Batch, 0);
            let mut block = Block::new(d);
            block.fill(&mut rng, samples);
            let flips: Vec<u64> = (0..d).map(|j| if (seed >> (j % 10) ^ j as u64) & 1 == 1 { !0 } else { 0 }).collect();
            let neuron = SignNeuron { flips, allowed: largest_count(d, bias) };
            let valid = block.valid();
            let y = block.parity(&[0, d - 1]);
            let agree: Vec<[u64; WORDS]> = block.columns.iter().map(|c| std::array::from_fn(|w| c[w] ^ y[w])).collect();

            let x = |s: usize, j: usize| 1 - 2 * (block.columns[j][s / 64] >> (s % 64) & 1) as i64;
            let mut want = vec![0i64; d];
            let mut want_active = 0;
            for s in 0..samples {
                let dot: i64 = (0..d).map(|j| if neuron.flips[j] == 0 { x(s, j) } else { -x(s, j) }).sum();
                if dot as f64 + bias >= 0.0 {
                    want_active += 1;
                    (0..d).for_each(|j| want[j] += x(s, 0) * x(s, d - 1) * x(s, j));
                }
            }
            for variant in [signed_sums, signed_sums_portable] {
                let (mut count, mut sums) = (0, vec![0; d]);
                variant(&block, &valid, &agree, &neuron, NeuronSums { active: &mut count, sums: &mut sums });
                prop_assert_eq!(count, want_active);
                prop_assert_eq!(&sums, &want);
            }
        }
    }
}
