use super::*;
use curricle_core::rng::{Purpose, Stream};
use curricle_core::task::pcfg::{Grammar, Sampler};
use curricle_probe::ngram::{NgramSummary, Spread};

fn phases() -> Phases {
    Phases {
        plateau_loss: 1.08,
        final_loss: 0.08,
        drop_start: 150.0,
        drop_middle: 200.0,
        drop_end: 250.0,
        three_phases: true,
    }
}

fn mark() -> CheckpointMark {
    CheckpointMark { step: 200.0, label: "C1".to_owned() }
}

fn spread(median: f64) -> Spread {
    Spread {
        count: 9,
        mean: median,
        q10: 0.0,
        q25: median / 2.0,
        median,
        q75: median * 1.5,
        q90: median * 2.0,
    }
}

#[test]
fn the_loss_figure_tells_phases_checkpoints_and_the_optimum() {
    let curve = |label: &str| LossCurve {
        label: label.to_owned(),
        points: (0..50).map(|i| [f64::from(i) * 10.0, 1.0 / (1.0 + f64::from(i))]).collect(),
    };
    let mut data = LossData {
        title: "Loss".to_owned(),
        curves: vec![curve("teacher"), curve(""), curve("one-shot")],
        phases: Some(phases()),
        checkpoints: vec![mark()],
        optimum: Some(0.02),
    };
    let figure = loss(&data);
    let svg = figure.to_svg().unwrap();
    for text in ["teacher", "one-shot", "C1", "exact Bayes", "drop of the loss", "training steps"] {
        assert!(svg.contains(text), "{text}");
    }
    assert!(
        figure.notes[0].contains("Three phases") && figure.notes[0].contains("step 150"),
        "{:?}",
        figure.notes
    );
    data.phases = None;
    assert!(loss(&data).notes[0].contains("No drop"));
    data.curves.clear();
    loss(&data).to_svg().unwrap();
}

#[test]
fn the_ngram_figure_says_where_the_peak_is() {
    let point = |step: f64, robust: f64| NgramPoint {
        step,
        summaries: [2, 3]
            .map(|n| NgramSummary { n, robust: spread(robust * n as f64), close: spread(0.5 / n as f64) })
            .to_vec(),
    };
    let mut data = NgramTimeline {
        title: "N-grams".to_owned(),
        points: vec![point(100.0, 0.01), point(200.0, 0.2), point(400.0, 0.02), point(800.0, 0.0)],
        reference: vec![NgramSummary { n: 3, robust: spread(0.0), close: spread(0.3) }],
        phases: Some(phases()),
        checkpoints: vec![mark()],
    };
    let figure = ngrams(&data);
    assert_eq!(figure.panels.len(), 2);
    let note = &figure.notes[0];
    assert!(note.contains("3-grams peaks at 0.6 at step 200, inside the drop"), "{note}");
    assert!(note.contains("fallen to nothing"), "{note}");
    let svg = figure.to_svg().unwrap();
    assert!(svg.contains("n = 2") && svg.contains("n = 3"));
    data.points.pop();
    assert!(ngrams(&data).notes[0].contains("fallen 10 times"), "{}", ngrams(&data).notes[0]);
    data.phases = Some(Phases { drop_start: 250.0, ..phases() });
    assert!(ngrams(&data).notes[0].contains("before the drop"));
    data.points.clear();
    assert!(ngrams(&data).notes[0].contains("No checkpoint"));
    ngrams(&data).to_svg().unwrap();
}

#[test]
fn students_are_compared_by_choice_and_by_level() {
    let data = FirstCheckpoints {
        title: "First checkpoint".to_owned(),
        choices: vec![
            Choice { label: "C1 (step 100)".to_owned(), accuracies: vec![0.7, 0.72], in_drop: false },
            Choice {
                label: "C2 (step 200)".to_owned(),
                accuracies: vec![0.79, 0.8, f64::NAN],
                in_drop: true,
            },
            Choice { label: "C3 (step 400)".to_owned(), accuracies: vec![], in_drop: false },
        ],
        arms: vec![ReferenceArm { label: "one-shot".to_owned(), accuracies: vec![0.77] }],
        optimum: Some(0.985),
    };
    let svg = first_checkpoint(&data).to_svg().unwrap();
    for text in ["C2 (step 200)", "one-shot", "exact Bayes", "inside the drop"] {
        assert!(svg.contains(text), "{text}");
    }
    let curves = [
        LevelCurve { label: "teacher".to_owned(), levels: vec![(1, vec![1.0]), (5, vec![0.8, 0.9])] },
        LevelCurve { label: "student".to_owned(), levels: vec![(1, vec![0.9]), (5, vec![0.6])] },
    ];
    let svg = levels("Probes", &curves, &[(1, 0.5), (5, 0.4)]).to_svg().unwrap();
    for text in ["level 5", "student", "most frequent non-terminal"] {
        assert!(svg.contains(text), "{text}");
    }
}

#[test]
fn a_sentence_is_drawn_with_its_tree_where_it_fits() {
    let grammar = Grammar::builtin("cfg3b").unwrap();
    let tree = |grammar: &Grammar| Sampler::new(grammar).tree(8, Stream::new(Purpose::Data, 0), 0);
    let short = grammar.with_start("15").unwrap();
    let own = tree_section(&short, &tree(&short));
    assert_eq!(own.figures.len(), 1);
    assert!(own.figures[0].to_svg().unwrap().contains(">15<"), "the root is not drawn");
    assert!(own.text[0].contains("2^-10.0"), "{:?}", own.text);
    assert!(own.preformatted[1].contains("└─ "));
    let long = tree_section(&grammar, &tree(&grammar));
    assert!(long.figures.is_empty() && long.preformatted.len() == 2);
}
