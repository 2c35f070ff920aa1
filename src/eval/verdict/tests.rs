use super::*;
use crate::eval::Dose;
use crate::eval::metric::differences;
use crate::eval::study::Condition;
use crate::index::{NeuronIndex, Provenance, Subject};

/// CLIP-I, class margin and scene margin of `n` pictures, a little apart from each other.
fn values(n: usize, [likeness, class, scene]: [f64; 3]) -> Values {
    let spread = |mean: f64| {
        (0..n)
            .map(|i| mean + 1e-3 * (i % 5) as f64 - 2e-3)
            .collect()
    };
    [
        (Metric::ClipI, spread(likeness)),
        (Metric::ClassMargin, spread(class)),
        (Metric::SceneMargin, spread(scene)),
    ]
    .into()
}

fn verdict(n: usize, photos: [f64; 2], shut: [f64; 3], random: f64) -> Verdict {
    let photos = values(5, [photos[0], photos[1], 0.0]);
    let plain = values(n, [0.5, 0.2, 0.3]);
    let (shut, control) = (values(n, shut), values(n, [random, 0.2, 0.3]));
    let provenance = Provenance {
        model: "m".to_owned(),
        fingerprint: "a".repeat(64),
        subjects: vec![Subject {
            noun: "dog".to_owned(),
            token: "sks".to_owned(),
        }],
        method: "paper".to_owned(),
        ..Provenance::default()
    };
    let index = NeuronIndex::new(provenance, []).unwrap();
    let dose = Measured {
        against_plain: differences(&shut, &plain),
        against_control: differences(&shut, &control),
        against_previous: None,
        dose: Dose { asked: None, index },
        shut: Condition {
            pictures: Vec::new(),
            values: shut,
        },
        controls: Vec::new(),
        control,
    };
    Verdict::of(&photos, &plain, &dose, "dog", 1).unwrap()
}

#[test]
fn everything_has_to_hold() {
    let (photos, good) = ([0.9, 0.2], [0.8, 0.19, 0.28]);
    for (n, photos, shut, random, answer, words) in [
        (20, photos, good, 0.5, Answer::Yes, "scene survives (93 %"),
        (
            8,
            photos,
            good,
            0.5,
            Answer::CannotTell,
            "with 8 pictures under each condition",
        ),
        (
            20,
            [0.49, 0.2],
            good,
            0.5,
            Answer::CannotTell,
            "cannot tell the subject from its class",
        ),
        (
            20,
            [0.9, -0.1],
            good,
            0.5,
            Answer::CannotTell,
            "no dog in the photos",
        ),
        (
            20,
            photos,
            [0.4, 0.2, 0.3],
            0.3,
            Answer::No,
            "further from the photos than plain",
        ),
        (
            20,
            photos,
            good,
            0.8,
            Answer::No,
            "as near to the photos as with random",
        ),
        (
            20,
            photos,
            [0.8, 0.01, 0.3],
            0.5,
            Answer::No,
            "the dog is lost (5 %",
        ),
        (
            20,
            photos,
            [0.8, 0.2, 0.0],
            0.5,
            Answer::No,
            "the scene is lost",
        ),
        // The photos show no more of the class.
        (
            20,
            [0.9, 0.06],
            [0.8, 0.05, 0.28],
            0.5,
            Answer::Yes,
            "the dog survives (25 %",
        ),
        (
            20,
            photos,
            [0.8, 0.1, 0.3],
            0.5,
            Answer::CannotTell,
            "whether the dog survives",
        ),
    ] {
        let found = verdict(n, photos, shut, random);
        assert_eq!(found.answer, answer, "{found}");
        let said = found.to_string();
        assert!(
            said.contains(words) && said.starts_with(&answer.to_string()),
            "{said}"
        );
    }
}
