//! The programs under examples/, run: what they show is asserted here.

#[path = "../examples/bounds_against_measured.rs"]
mod bounds_against_measured;
#[path = "../examples/correlate_any_function.rs"]
mod correlate_any_function;
#[path = "../examples/custom_measurement.rs"]
mod custom_measurement;
#[path = "../examples/distil_once.rs"]
mod distil_once;

#[test]
fn one_intermediate_checkpoint_saves_samples() {
    let (middle, one_shot) = distil_once::run().unwrap();
    assert!(2 * middle < one_shot, "{middle} against {one_shot}");
}

#[test]
fn the_bound_holds_and_the_prediction_is_close() {
    for (d, bound, predicted, measured) in bounds_against_measured::run().unwrap() {
        let measured = measured as f64;
        assert!(measured <= bound, "d = {d}: {measured} above the bound {bound}");
        assert!((0.1..10.0).contains(&(measured / predicted)), "d = {d}: {measured} against {predicted}");
    }
}

#[test]
fn a_rule_that_knows_three_coordinates_correlates_with_them() {
    let found = correlate_any_function::run().unwrap();
    // The majority of three: 1/2 at each coordinate, -1/2 at their product, in a margin of +-2 with its sign turned.
    for coordinates in [vec![3], vec![8], vec![14], vec![3, 8, 14]] {
        let (_, value, error) = found.iter().find(|(c, ..)| *c == coordinates).unwrap();
        assert!((value.abs() - 1.0).abs() < 5.0 * error, "{coordinates:?}: {value} +- {error}");
    }
    assert!(found.iter().skip(4).all(|(_, value, error)| value.abs() < 5.0 * error));
}

#[test]
fn a_measurement_of_ones_own_has_its_claim_judged_and_its_curve_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let finished = custom_measurement::run(folder.path()).unwrap();
    assert_eq!(finished.claims[0].verdict.as_str(), "PASS");
    assert!(folder.path().join("norms/figures/norm-of-the-first-layer.svg").is_file());
    assert!(folder.path().join("norms/teacher/seed-1/first-layer-norm.json").is_file());
}
