//! The programs under examples/, run: what they show is asserted here.

#[path = "../examples/bounds_against_measured.rs"]
mod bounds_against_measured;
#[path = "../examples/correlate_any_function.rs"]
mod correlate_any_function;
#[path = "../examples/custom_family.rs"]
mod custom_family;
#[path = "../examples/custom_measurement.rs"]
mod custom_measurement;
#[path = "../examples/custom_task.rs"]
mod custom_task;
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

#[test]
fn a_task_from_outside_trains_and_distils() {
    let folder = tempfile::tempdir().unwrap();
    let samples = custom_task::run(folder.path()).unwrap();
    let of = |arm: &str| samples.iter().find(|(name, _)| name == arm).unwrap().1;
    assert!(of("teacher").is_some() && of("middle").is_some(), "{samples:?}");
}

#[test]
fn a_family_from_outside_trains_distils_correlates_and_resumes() {
    use curricle::lab::family::SignFamily;
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let finished = custom_family::run(first.path()).unwrap();
    let accuracy: Vec<f64> = finished.results.runs.iter().filter_map(|r| r.final_accuracy).collect();
    assert!(accuracy.len() == 2 && accuracy.iter().all(|a| *a > 0.9), "{accuracy:?}");
    assert!(finished.claims[0].value.unwrap() > 3.0, "{:?}", finished.claims);
    // Taken up again: nothing is trained anew. In another folder: the same bits.
    let checkpoint = |out: &std::path::Path| {
        let name = "conv1d/one-shot/seed-1/checkpoints/step-000000002000.safetensors";
        std::fs::read(out.join(name)).unwrap()
    };
    let before = checkpoint(first.path());
    custom_family::run(first.path()).unwrap();
    custom_family::run(second.path()).unwrap();
    assert!(before == checkpoint(first.path()) && before == checkpoint(second.path()));
    assert_eq!(custom_family::Conv1d::KIND, "conv1d");
}

#[test]
fn the_gradients_of_the_family_from_outside_are_those_of_its_loss() {
    use curricle::lab::family::SignFamily;
    use curricle::model::{Loss, SignModel};
    use curricle::optim::Steps;
    use curricle::task::{BooleanTask, HierarchicalParity, Support};
    let keys = serde_json::from_str(r#"{ "channels": 2, "window": 3, "pool": 2 }"#).unwrap();
    let (family, d) = (custom_family::Conv1d, 8);
    let task = HierarchicalParity::parity(d, 2, &Support::First).unwrap();
    let stream = curricle::rng::Stream::new(curricle::rng::Purpose::Data, 0);
    let samples = task.samples(1, stream, 0, 16);
    let targets: Vec<f32> =
        samples.labels.iter().flat_map(|&l| if l == 0 { [1.0, 0.0] } else { [0.0, 1.0] }).collect();
    let step = |tensors: &curricle::files::Tensors, rate: f32| {
        let mut model = family.load(&keys, d, 2, tensors).unwrap();
        let loss = model.train(&Steps {
            samples: &samples,
            batch: 16,
            loss: Loss::CrossEntropy,
            targets: &targets,
            rates: &[rate],
            weight_decay: 0.0,
        });
        (loss.loss_sum / 16.0, model.to_params())
    };
    let start = family.first(&keys, d, 2, 7).to_params();
    let (_, moved) = step(&start, 1.0);
    for t in 0..2 {
        for i in 0..start.list[t].data.len() {
            let shifted = |by: f32| {
                let mut tensors = start.clone();
                tensors.list[t].data[i] += by;
                step(&tensors, 0.0).0
            };
            let numeric = (shifted(2e-3) - shifted(-2e-3)) / 4e-3;
            let gradient = f64::from(start.list[t].data[i] - moved.list[t].data[i]);
            assert!((numeric - gradient).abs() < 2e-3, "tensor {t}, {i}: {numeric} against {gradient}");
        }
    }
}
