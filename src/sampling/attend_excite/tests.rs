//! The loss by hand and by finite differences, and the schedule.

use super::super::noise::Generator;
use super::*;

/// Attention of `t` tokens at each of `n` pixels.
fn map(n: usize, t: usize, seed: u64) -> Vec<f32> {
    let noise = Generator::new(seed).randn(n * t);
    let rows = noise.chunks(t).flat_map(|row| {
        let powers: Vec<f32> = row.iter().map(|v| v.exp()).collect();
        let sum: f32 = powers.iter().sum();
        powers.into_iter().map(move |p| p / sum)
    });
    rows.map(|p| p * 0.2).collect() // no token wins the sharpened softmax everywhere
}

#[test]
fn a_constant_image_stays_and_a_spot_spreads() {
    for (h, w) in [(2, 2), (3, 5), (8, 4)] {
        for v in smoothed(&vec![0.7; h * w], h, w) {
            assert!((v - 0.7).abs() < 1e-6);
        }
    }
    let mut spot = vec![0.0; 25];
    spot[12] = 1.0;
    let (e, total) = ((-1f32).exp(), (1.0 + 2.0 * (-1f32).exp()).powi(2));
    let out = smoothed(&spot, 5, 5);
    for (at, want) in [(12, 1.0), (11, e), (7, e), (6, e * e), (10, 0.0)] {
        assert!((out[at] - want / total).abs() < 1e-6, "{at}");
    }
    // In the corner the mirror image of pixel 1 stands beyond the border too.
    let mut spot = vec![0.0; 9];
    spot[4] = 1.0;
    assert!((smoothed(&spot, 3, 3)[0] - 4.0 * e * e / total).abs() < 1e-6);
}

#[test]
fn smoothing_and_its_transpose_agree() {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    for (h, w) in [(2, 2), (2, 7), (6, 5)] {
        let (x, g) = (
            Generator::new(1).randn(h * w),
            Generator::new(2).randn(h * w),
        );
        let (left, right) = (
            dot(&smoothed(&x, h, w), &g),
            dot(&x, &smoothed_transposed(&g, h, w)),
        );
        assert!((left - right).abs() < 1e-5, "{left} {right}");
    }
}

#[test]
fn the_loss_is_of_the_token_that_lacks_most() {
    let mut values = map(12, 6, 3);
    let alone = |values: &[f32], token| {
        attention_loss(values, Size::new(4, 3), &[token])
            .unwrap()
            .value
    };
    let (first, second) = (alone(&values, 2), alone(&values, 3));
    let both = attention_loss(&values, Size::new(4, 3), &[2, 3])
        .unwrap()
        .value;
    assert_eq!(both, first.max(second));
    assert!(first > 0.0 && second > 0.0 && first != second);
    // A token that has everything everywhere lacks nothing, and then nothing moves.
    values.chunks_mut(6).for_each(|row| row[2] = 5.0);
    let loss = attention_loss(&values, Size::new(4, 3), &[2]).unwrap();
    assert!(loss.value < 1e-6 && loss.gradient.iter().all(|g| g.abs() < 1e-3));
}

#[test]
fn the_gradient_equals_finite_differences() {
    for (size, tokens) in [
        (Size::new(5, 4), &[2usize, 4][..]),
        (Size::new(2, 2), &[1]),
        (Size::new(3, 5), &[4, 3, 1]),
    ] {
        let values = map(size.pixels(), 6, 7);
        let loss = attention_loss(&values, size, tokens).unwrap();
        let largest = loss.gradient.iter().fold(0f32, |m, g| m.max(g.abs()));
        assert!(largest > 0.1);
        for (i, got) in loss.gradient.iter().enumerate() {
            let at = |step: f32| {
                let mut moved = values.clone();
                moved[i] += step;
                attention_loss(&moved, size, tokens).unwrap().value
            };
            let want = (at(2e-4) - at(-2e-4)) / 4e-4;
            assert!((got - want).abs() < 0.01 * largest, "{i}: {got} {want}");
        }
    }
}

#[test]
fn what_is_no_map_or_token_is_refused() {
    let values = map(12, 6, 3);
    for (size, tokens) in [
        (Size::new(12, 1), &[1][..]),
        (Size::new(1, 12), &[1]),
        (Size::new(5, 5), &[1]),
        (Size::new(4, 3), &[]),
        (Size::new(4, 3), &[0]),
        (Size::new(4, 3), &[5]),
    ] {
        attention_loss(&values, size, tokens).unwrap_err();
    }
    let mut broken = values.clone();
    broken[3] = f32::NAN;
    attention_loss(&broken, Size::new(4, 3), &[1]).unwrap_err();
}

/// Steps of a run in which each move takes a tenth off the loss: how often the loss is asked for, and the moves.
fn run(settings: &AttendExcite, index: usize, start: f32) -> (usize, f32) {
    let step = Step {
        index,
        total: 50,
        timestep: 0.0,
        signal: 1.0,
        noise: 0.0,
    };
    let mut calls = 0;
    let mut latents = [start];
    settings
        .update(&step, &mut latents, |z| {
            calls += 1;
            Ok::<_, Error>(Loss {
                value: z[0].max(0.0),
                gradient: vec![0.1 / settings.step_size(&step)],
            })
        })
        .unwrap();
    (calls, ((start - latents[0]) * 10.0).round())
}

#[test]
fn the_schedule_is_the_authors() {
    let settings = AttendExcite::default();
    // One move at a step without threshold, none from step 25 on.
    assert_eq!(run(&settings, 1, 1.0), (1, 1.0));
    assert_eq!(run(&settings, 24, 1.0), (1, 1.0));
    assert_eq!(run(&settings, 25, 1.0), (0, 0.0));
    // Step 10 wants 0.5. From 0.85: the loss is seen at 0.85, 0.75, 0.65, 0.55 and 0.45, and each time moved from; then
    // once more for the step's own move.
    assert_eq!(run(&settings, 10, 0.85), (6, 6.0));
    assert_eq!(run(&settings, 10, 0.45), (1, 1.0));
    // 20 moves at most, and the step's own.
    assert_eq!(run(&settings, 20, 9.0), (21, 21.0));
    // A threshold counts behind the last iteration too, but then has no move after it.
    let late = AttendExcite {
        max_iterations: 5,
        ..settings.clone()
    };
    assert_eq!(run(&late, 10, 0.85), (5, 5.0));

    let size = |index, total| {
        settings.step_size(&Step {
            index,
            total,
            timestep: 0.0,
            signal: 1.0,
            noise: 0.0,
        })
    };
    assert_eq!((size(0, 1), size(0, 50)), (20.0, 20.0));
    assert!((size(49, 50) - 20.0 * 0.5f32.sqrt()).abs() < 1e-6);
}
