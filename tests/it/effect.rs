//! What `find` learns does what it is for: the subject is drawn where its words are, and random neurons do not draw it.
//!
//! The judge is the pocket model's own CLIP: a picture shows what the nearest of its references shows. References are
//! the photos of all sixteen subjects, and plain pictures of the two classes, untinted and in the subject's tint, so
//! that a blue dog of another build is no blue guide dog.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, helpers and all, and tells how near it came"
)]

use std::path::Path;
use std::sync::OnceLock;

use candle_core::Device;
use cones::Picture;
use cones::checkpoint::Source;
use cones::index::NeuronIndex;
use cones::index::random_control;
use cones::model::Clip;

use super::cli::{ok, repository};

/// A subject: the folder of its photos, the words that name it, and the tint that others of its class have too.
struct Subject {
    folder: &'static str,
    token: &'static str,
    noun: &'static str,
    tint: &'static str,
}

const SUBJECTS: [Subject; 2] = [
    Subject {
        folder: "blue-guide-dog",
        token: "sks",
        noun: "dog",
        tint: "blue",
    },
    Subject {
        folder: "purple-panda",
        token: "zwx",
        noun: "bear",
        tint: "purple",
    },
];

impl Subject {
    /// What others of its class are called, without its tint and in it.
    fn class(&self) -> [String; 2] {
        let Self { noun, tint, .. } = self;
        [(*noun).to_owned(), format!("{tint} {noun}")]
    }
}

/// A fifth of the default: enough for one subject in a picture.
const STEPS: &str = "100";
/// Pictures of each kind, one in each scene.
const PICTURES: usize = SCENES.len();
const SCENES: [&str; 8] = [
    "in a park",
    "on the beach",
    "in the snow",
    "at night",
    "in the desert",
    "in a room",
    "in the forest",
    "on a street",
];
/// Of eight: measured are 6 and 8, whatever the rounding of the processor moves.
const MOST: usize = 5;

/// Draws each of `things`, a noun with what stands before it, in every scene.
fn draw(dir: &Path, things: &[&str], concepts: Option<&str>, seed: &str) -> Vec<Vec<Picture>> {
    let of = |thing: &&str| SCENES.map(|scene| format!("a photo of a {thing} {scene}\n"));
    let prompts: Vec<String> = things.iter().flat_map(of).collect();
    std::fs::write(dir.join("prompts"), prompts.concat()).unwrap();
    let mut args = vec!["generate", "-q", "--raw-prompt", "--steps", "12"];
    args.extend(["--seed", seed, "--prompts", "prompts", "-o", "drawn.png"]);
    args.extend(concepts.iter().flat_map(|file| ["--concepts", file]));
    ok(dir, &args);
    let picture =
        |line: usize| Picture::read(&dir.join(format!("drawn-{line}-{seed}.png")), None).unwrap();
    let drawn: Vec<Picture> = (1..=prompts.len()).map(picture).collect();
    drawn.chunks(PICTURES).map(<[_]>::to_vec).collect()
}

/// The photos of a subject of the pocket world.
fn photos(folder: &str) -> Vec<Picture> {
    let folder = repository().join("examples/pocket/subjects").join(folder);
    let paths = (1..=5).map(|i| folder.join(format!("{i}.png")));
    paths
        .map(|path| Picture::read(&path, None).unwrap())
        .collect()
}

/// Of unit vectors.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

struct Judge {
    clip: Clip,
    references: Vec<(String, Vec<f32>)>,
    /// The references of the subjects' classes: for each its class, and its class in its tint.
    plain: Vec<Vec<Picture>>,
}

impl Judge {
    fn new() -> Self {
        let pocket = Source::open("pocket").unwrap();
        let mut judge = Self {
            clip: Clip::of_model(&pocket, &Device::Cpu).unwrap().unwrap(),
            references: Vec::new(),
            plain: Vec::new(),
        };
        for entry in std::fs::read_dir(repository().join("examples/pocket/subjects")).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_dir() {
                let name = entry.file_name().into_string().unwrap();
                judge.add(&name, &photos(&name));
            }
        }
        assert_eq!(judge.references.len(), 16 * 5);
        let dir = tempfile::tempdir().unwrap();
        let classes: Vec<String> = SUBJECTS.iter().flat_map(Subject::class).collect();
        let classes: Vec<&str> = classes.iter().map(String::as_str).collect();
        // Another seed than that of the pictures that are judged.
        for (class, pictures) in classes.iter().zip(draw(dir.path(), &classes, None, "100")) {
            judge.add(class, &pictures);
            judge.plain.push(pictures);
        }
        judge
    }

    fn add(&mut self, name: &str, pictures: &[Picture]) {
        let embedded = self.clip.embed_pictures(pictures.iter().map(Ok)).unwrap();
        let named = embedded.into_iter().map(|e| (name.to_owned(), e));
        self.references.extend(named);
    }

    /// What the reference shows that is nearest to a picture, of all that are not the picture itself.
    fn sees(&self, picture: &[f32]) -> &str {
        let others = self.references.iter().filter(|(_, r)| r != picture);
        let nearest =
            others.max_by(|(_, a), (_, b)| cosine(a, picture).total_cmp(&cosine(b, picture)));
        &nearest.unwrap().0
    }

    /// How many of the pictures show `name`.
    fn count(&self, name: &str, pictures: &[Picture]) -> usize {
        let embedded = self.clip.embed_pictures(pictures.iter().map(Ok)).unwrap();
        embedded.iter().filter(|e| self.sees(e) == name).count()
    }
}

/// One judge for both tests: its references take a while to draw.
fn judge() -> &'static Judge {
    static JUDGE: OnceLock<Judge> = OnceLock::new();
    JUDGE.get_or_init(Judge::new)
}

#[test]
fn a_learned_concept_draws_its_subjects_and_random_neurons_draw_none() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for Subject {
        folder,
        token,
        noun,
        ..
    } in SUBJECTS
    {
        let photos = repository().join("examples/pocket/subjects").join(folder);
        let photos = photos.display().to_string();
        let mut args = vec!["find", "-q", "--subject", noun, "--token", token];
        args.extend(["--steps", STEPS, &photos]);
        ok(dir, &args);
    }
    ok(dir, &["merge", "dog.idx", "bear.idx", "-o", "pair.idx"]);
    let pair = NeuronIndex::read(&dir.join("pair.idx")).unwrap();
    let control = random_control(&pair, 0).unwrap();
    assert_eq!(control.extent().shut, pair.extent().shut);
    control.write(&dir.join("random.idx")).unwrap();

    let judge = judge();
    let named = SUBJECTS.map(|Subject { token, noun, .. }| format!("{token} {noun}"));
    let classes = SUBJECTS.map(|Subject { noun, .. }| noun);
    let things: Vec<&str> = named.iter().map(String::as_str).chain(classes).collect();
    let [with, without] = [&things[..], &things[..SUBJECTS.len()]];
    let learned = draw(dir, with, Some("pair.idx"), "0");
    let random = draw(dir, without, Some("random.idx"), "0");
    let plain = draw(dir, without, None, "0");
    for (i, Subject { folder, noun, .. }) in SUBJECTS.iter().enumerate() {
        let count = |drawn: &[Vec<Picture>]| judge.count(folder, &drawn[i]);
        let (learned_right, random, plain) = (count(&learned), count(&random), count(&plain));
        println!("{folder}: {learned_right} of {PICTURES} learned, {random} random, {plain} plain");
        assert!(
            learned_right >= MOST,
            "{folder}: {learned_right} of {PICTURES}"
        );
        assert_eq!((random, plain), (0, 0), "{folder}: random, plain");
        // What is shut at the words of the subject leaves its class alone.
        let class = judge.count(folder, &learned[SUBJECTS.len() + i]);
        assert_eq!(class, 0, "{folder}: {noun} without its token");
    }
}

/// The judge says no where no is the answer, and knows what it has seen from other photos of it.
#[test]
fn the_judge_can_say_no() {
    let judge = judge();
    let right = judge
        .references
        .iter()
        .filter(|(name, picture)| judge.sees(picture) == name);
    let (right, all) = (right.count(), judge.references.len());
    println!("{right} of {all} references are seen for what they are from the others");
    assert!(right * 10 >= all * 9, "{right} of {all}");
    let [dog, panda] = SUBJECTS.map(|Subject { folder, .. }| folder);
    let plain = |subject: usize, tinted: usize| judge.plain[2 * subject + tinted].clone();
    let cases = [
        ("the class", plain(0, 0), dog),
        ("the class in the subject's tint", plain(0, 1), dog),
        ("a variant of the class", photos("poodle"), dog),
        ("the other subject", photos(panda), dog),
        ("another thing of this tint", photos("blue-hut"), dog),
        ("the class", plain(1, 0), panda),
        ("the class in the subject's tint", plain(1, 1), panda),
        ("a variant of the class", photos("koala"), panda),
        (
            "another thing of this tint",
            photos("purple-mallard"),
            panda,
        ),
    ];
    for (what, pictures, subject) in cases {
        let taken = judge.count(subject, &pictures);
        assert_eq!(taken, 0, "{what} taken for {subject}");
    }
}
