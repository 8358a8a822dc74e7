use curricle_theory::two_phase::*;
use std::time::Instant;
fn main() {
    for (d, b) in [(15usize, 235_000u64), (41, 5_350_000)] {
        let p = Problem::first(d, 4).unwrap();
        let t = Instant::now();
        for trial in 0..4 {
            let mut f = FirstPhase::new(&p, Supervision::Labels, 32, 1, trial).unwrap();
            f.extend(b).unwrap();
            println!("{d} {:?} {:?}", f.ranking(), t.elapsed());
        }
        for idx in 0..6 {
            let t = Instant::now();
            let net = phase_one_teacher(&p, &TeacherSpec::default(), 1, idx).unwrap();
            let mut f = FirstPhase::new(&p, Supervision::Net(&net), 32, 1, idx).unwrap();
            for b in [1000, 9000, 90_000] {
                f.extend(b).unwrap();
                print!("{:?} ", f.ranking());
            }
            println!("{:?}", t.elapsed());
        }
    }
}
