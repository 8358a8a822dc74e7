//! Monomial correlations of anything that answers in logits: here a rule of thumb that has noticed three of a parity's four
//! coordinates. What it knows shows up at degree 1 and 3 inside the support, and nowhere outside.
use curricle::model::FromFn;
use curricle::probe::{KnownSupport, Monomials, Request, Sampling, Statistic, correlations};
use curricle::task::Samples;

/// Coordinates of a monomial, its correlation, the standard error.
type Row = (Vec<usize>, f64, f64);

/// Every measured monomial, the largest correlation first.
pub fn run() -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    let d = 30;
    let support = KnownSupport::new(d, &[vec![3, 8, 14, 25]])?;
    // The majority of three coordinates as the margin between two logits; a set bit stands for x = -1.
    let rule = |samples: &Samples, logits: &mut [f32]| {
        for (i, out) in logits.chunks_exact_mut(2).enumerate() {
            let minus = [3, 8, 14].iter().filter(|&&j| samples.row(i)[j / 32] >> (j % 32) & 1 == 1).count();
            out.copy_from_slice(if minus >= 2 { &[0.0, 2.0] } else { &[2.0, 0.0] });
        }
    };
    let model = FromFn { d, classes: 2, function: rule };
    let monomials = Monomials::select(d, Some(&support), &[1, 2, 3], 20, 0)?;
    let sampling = Sampling::Random { samples: 50_000, seed: 0 };
    let request = Request { statistic: Statistic::Margin, class: 1, sampling };
    let found = correlations(&model, &monomials, None, &request, &mut |_| {})?;
    let row = |c: curricle::probe::Coefficient| (c.monomial.coordinates, c.value, c.standard_error);
    let mut rows: Vec<_> = found.coefficients.into_iter().map(row).collect();
    rows.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    Ok(rows)
}

#[allow(dead_code)]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    for (coordinates, value, error) in run()?.into_iter().take(8) {
        println!("{coordinates:?}: {value:+.4} +- {error:.4}");
    }
    Ok(())
}
