//! A run that is stopped between two steps and goes on from its state's bytes comes to the same bytes.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, helpers and all"
)]

use candle_core::Device;
use cones::checkpoint::Source;
use cones::find::paper::BatchSampling;
use cones::find::selection::Selection;
use cones::find::{
    ClassImages, Event, FindPlan, Method, Moment, Observer, TrainerState, TunePlan, find, learned,
    paper, tune, tuning,
};
use cones::index::{NeuronIndex, Scope, SiteSelection, Subject};
use cones::{Error, Photos, Pipeline, Result, list_images};

use super::cli::golden;

/// Stops after a step, keeping the state's bytes; and may go on from such.
#[derive(Default)]
struct Stop {
    from: Option<Vec<u8>>,
    /// Never, if it is 0.
    after: usize,
    kept: Vec<u8>,
    taken: usize,
}

impl Observer for Stop {
    fn event(&mut self, _: Event) -> Result<()> {
        Ok(())
    }

    fn resume(&mut self) -> Result<Option<TrainerState>> {
        let from = self.from.as_deref().map(TrainerState::try_from);
        from.transpose()
    }

    fn between_steps(&mut self, moment: &Moment) -> Result<()> {
        self.taken += 1;
        self.kept.clear();
        moment.state()?.write(&mut self.kept).unwrap();
        match moment.step.step + 1 == self.after {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }
}

fn pipeline() -> Pipeline {
    let source = Source::open(&golden("models/sd1-f32")).unwrap();
    Pipeline::load(&source, &Device::Cpu, None).unwrap()
}

fn photos(folder: &str) -> Photos {
    let list = list_images(&[golden(folder).into()]).unwrap();
    list.read(Photos::KEEP, |_, _| Ok(())).unwrap()
}

fn subject(noun: &str) -> Subject {
    Subject {
        noun: noun.to_owned(),
        token: "sks".to_owned(),
    }
}

/// Everything that a run gives, as bytes.
type Results = Result<Vec<Vec<u8>>>;

/// Stops a run after each of these steps, goes on with a fresh model, and compares; `steps` is how many it takes.
fn goes_on(name: &str, run: impl Fn(&mut Stop) -> Results + Sync, stops: &[usize], steps: usize) {
    // On a thread of the pool: from outside, each of the many small products would wait for one.
    let run = |stop: &mut Stop| rayon::scope(|_| run(stop));
    let mut whole = Stop::default();
    let want = run(&mut whole).unwrap();
    assert_eq!(whole.taken, steps, "{name}");
    let end = TrainerState::try_from(whole.kept.as_slice()).unwrap();
    let losses = |state: &TrainerState| -> Vec<u32> {
        state.steps.iter().map(|s| s.loss.to_bits()).collect()
    };
    for &after in stops {
        let mut first = Stop {
            after,
            ..Stop::default()
        };
        assert!(matches!(run(&mut first), Err(Error::Interrupted)), "{name}");
        assert_eq!(first.taken, after, "{name}");
        let mut rest = Stop {
            from: Some(first.kept),
            ..Stop::default()
        };
        let found = run(&mut rest).unwrap();
        assert_eq!(rest.taken, steps - after, "{name} after {after}");
        assert!(found == want, "{name}: other bytes after a stop at {after}");
        if after < steps {
            let state = TrainerState::try_from(rest.kept.as_slice()).unwrap();
            assert_eq!(losses(&state), losses(&end), "{name} after {after}");
        }
    }
}

fn finding(method: &Method, observer: &mut Stop) -> Results {
    let class = match method {
        Method::Learned { mask, .. } if mask.scope == Scope::Words => ClassImages::Needless,
        _ => ClassImages::Given(photos("photos/class")),
    };
    let plan = FindPlan {
        subject: subject("dog"),
        method: method.clone(),
        class,
    };
    let found = find(&mut pipeline(), plan, photos("photos/subject"), observer)?;
    assert!(found.index.extent().shut > 0);
    assert_eq!(
        found.index.provenance().settings["steps"],
        found.steps.len().to_string()
    );
    Ok(vec![found.index.to_bytes()?, found.scores_file()?])
}

#[test]
fn algorithm_1_goes_on_to_the_same_bytes() {
    let options = paper::Options {
        steps: 5,
        seed: 3,
        ..paper::Options::default()
    };
    let importance = paper::Options {
        batch_sampling: BatchSampling::Importance,
        rho: 0.0,
        ..options
    };
    let cases = [
        ("pairs", options),
        // So large that the weights move.
        (
            "pairs, rho 20",
            paper::Options {
                rho: 20.0,
                ..options
            },
        ),
        (
            "strata, rho 20, words",
            paper::Options {
                batch_sampling: BatchSampling::Stratified(2),
                rho: 20.0,
                scope: Scope::Words,
                ..options
            },
        ),
        (
            "strata, all sites",
            paper::Options {
                batch_sampling: BatchSampling::Stratified(3),
                sites: SiteSelection::All,
                selection: Selection::Threshold(0.0),
                ..options
            },
        ),
        // The sizes count from 8 samples of each kind on, after the fourth step of five.
        ("importance", importance),
    ];
    for (name, options) in cases {
        let run = |stop: &mut Stop| finding(&Method::Paper(options), stop);
        goes_on(name, run, &[1, 2, 4, 5], 5);
    }
    // It has settled at the first look, also where that is where it goes on.
    let stable = paper::Options {
        steps: 60,
        until_stable: Some(0.0),
        ..importance
    };
    let run = |stop: &mut Stop| finding(&Method::Paper(stable), stop);
    goes_on("until stable", run, &[13, 20], 20);
}

#[test]
fn masks_go_on_to_the_same_bytes() {
    for (scope, sites) in [
        (Scope::Words, SiteSelection::Cross),
        (Scope::Words, SiteSelection::CrossValues),
        (Scope::Prompt, SiteSelection::Cross),
    ] {
        let mask = learned::Options {
            steps: 5,
            batch_size: 2,
            learning_rate: 0.3,
            scope,
            sites,
            seed: 3,
            ..learned::Options::default()
        };
        let method = Method::Learned { mask, density: 0.5 };
        let run = |stop: &mut Stop| finding(&method, stop);
        goes_on(&scope.to_string(), run, &[1, 3, 4, 5], 5);
    }
}

#[test]
fn tuning_goes_on_to_the_same_bytes() {
    for scope in [Scope::Words, Scope::Prompt] {
        let part = |noun: &str, seed| {
            let mask = learned::Options {
                steps: 2,
                batch_size: 2,
                learning_rate: 0.5,
                scope,
                seed,
                ..learned::Options::default()
            };
            let plan = FindPlan {
                subject: subject(noun),
                method: Method::Learned { mask, density: 0.5 },
                class: ClassImages::Needless,
            };
            let photos = photos("photos/subject");
            find(&mut pipeline(), plan, photos, &mut Stop::default())
                .unwrap()
                .index
        };
        let union = NeuronIndex::union(&[&part("dog", 1), &part("cat", 2)]).unwrap();
        let options = tuning::Options {
            steps: 4,
            batch_size: 2,
            learning_rate: 0.1,
            prior_loss_weight: 1.0,
            scope,
            seed: 7,
        };
        let class = match scope {
            Scope::Words => Vec::new(),
            Scope::Prompt => vec![ClassImages::Given(photos("photos/class")); 2],
        };
        for dense in [false, true] {
            let plan = TunePlan {
                options,
                dense,
                class: class.clone(),
            };
            let run = |stop: &mut Stop| -> Results {
                let photos = vec![photos("photos/subject"); 2];
                let tuned = tune(&mut pipeline(), &union, plan.clone(), photos, stop)?;
                assert!(tuned.index.extent().tuned);
                Ok(vec![tuned.index.to_bytes()?])
            };
            goes_on(&scope.to_string(), run, &[1, 3, 4], 4);
        }
    }
}

/// A state is of a method and of sites; and what it holds counts.
#[test]
fn states_of_other_runs_are_refused_or_lead_elsewhere() {
    let mask = learned::Options {
        steps: 3,
        batch_size: 1,
        learning_rate: 0.3,
        sites: SiteSelection::CrossValues,
        ..learned::Options::default()
    };
    let learned = |mask| Method::Learned { mask, density: 0.5 };
    let stopped = |method: &Method| {
        let mut stop = Stop {
            after: 2,
            ..Stop::default()
        };
        assert!(finding(method, &mut stop).is_err());
        stop.kept
    };
    let from = |method: &Method, state: &[u8]| {
        let mut rest = Stop {
            from: Some(state.to_vec()),
            ..Stop::default()
        };
        finding(method, &mut rest)
    };
    let state = stopped(&learned(mask));
    let want = from(&learned(mask), &state).unwrap();
    let other = learned::Options {
        learning_rate: 0.1,
        ..mask
    };
    assert!(want != from(&learned(mask), &stopped(&learned(other))).unwrap());
    let more = learned::Options {
        sites: SiteSelection::Cross,
        ..mask
    };
    let paper = paper::Options {
        steps: 3,
        ..paper::Options::default()
    };
    for method in [learned(more), Method::Paper(paper)] {
        let error = from(&method, &state).unwrap_err().to_string();
        assert!(error.contains("state of a run"), "{error}");
    }
}
