//! Which instruction sets there are, and which one this processor gets.

/// An instruction set the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isa {
    /// Arrays of 16 f32, whatever the compiler makes of them; any processor.
    Portable,
    /// Two 256-bit vectors with FMA (x86-64-v3).
    Avx2,
    /// One 512-bit vector (AVX-512 F, BW, DQ, VL: x86-64-v4).
    Avx512,
}

impl Isa {
    /// The widest instruction set this processor has. The environment variable `CURRICLE_ISA` (portable, avx2, avx512)
    /// lowers the choice, never raises it.
    pub fn detect() -> Self {
        let best = *Self::available().last().expect("the portable kernels always exist");
        let wanted = match std::env::var("CURRICLE_ISA").as_deref() {
            Ok("portable") => Self::Portable,
            Ok("avx2") => Self::Avx2,
            _ => best,
        };
        if Self::available().contains(&wanted) { wanted } else { best }
    }

    /// All instruction sets this processor can run, slowest first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)]
        let mut found = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("popcnt")
            {
                found.push(Self::Avx2);
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                {
                    found.push(Self::Avx512);
                }
            }
        }
        found
    }

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }
}
