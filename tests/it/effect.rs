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
/// Of eight: measured are 7 and 8, whatever the rounding of the processor moves.
const MOST: usize = 6;

/// Draws each of `things`, a noun with what stands before it, in every scene.
fn draw(dir: &Path, things: &[&str], concepts: Option<&str>, seed: usize) -> Vec<Vec<Picture>> {
    let mut drawn = vec![Vec::new(); things.len()];
    for (i, scene) in SCENES.iter().enumerate() {
        let prompts = things
            .iter()
            .map(|thing| format!("a photo of a {thing} {scene}\n"));
        std::fs::write(dir.join("prompts"), prompts.collect::<String>()).unwrap();
        let seed = (seed + i).to_string();
        let mut args = vec!["generate", "-q", "--raw-prompt", "--steps", "12"];
        args.extend(["--seed", &seed, "--prompts", "prompts", "-o", "drawn.png"]);
        args.extend(concepts.iter().flat_map(|file| ["--concepts", file]));
        ok(dir, &args);
        for (line, pictures) in (1..).zip(&mut drawn) {
            let file = dir.join(format!("drawn-{line}-{seed}.png"));
            pictures.push(Picture::read(&file, None).unwrap());
        }
    }
    drawn
}

/// The subjects' classes.
fn nouns() -> [String; 2] {
    SUBJECTS.map(|Subject { noun, .. }| noun.to_owned())
}

/// The same in the subjects' tints.
fn tinted() -> [String; 2] {
    SUBJECTS.map(|Subject { noun, tint, .. }| format!("{tint} {noun}"))
}

/// A list of texts as [`draw`] takes it.
fn borrowed(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
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
}

impl Judge {
    fn new() -> Self {
        let pocket = Source::open("pocket").unwrap();
        let mut judge = Self {
            clip: Clip::of_model(&pocket, &Device::Cpu).unwrap().unwrap(),
            references: Vec::new(),
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
        // Other seeds than those of the pictures that are judged.
        for (classes, seed) in [(nouns(), 100), (tinted(), 200)] {
            let drawn = draw(dir.path(), &borrowed(&classes), None, seed);
            for (class, pictures) in classes.iter().zip(drawn) {
                judge.add(class, &pictures);
            }
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
    let all = [named.clone(), nouns()].concat();
    let named = borrowed(&named);
    let learned = draw(dir, &borrowed(&all), Some("pair.idx"), 0);
    let random = draw(dir, &named, Some("random.idx"), 0);
    let plain = draw(dir, &named, None, 0);
    for (i, Subject { folder, noun, .. }) in SUBJECTS.iter().enumerate() {
        let count = |drawn: &[Vec<Picture>]| judge.count(folder, &drawn[i]);
        let (shown, random, plain) = (count(&learned), count(&random), count(&plain));
        println!("{folder}: {shown} of {PICTURES} learned, {random} random, {plain} plain");
        assert!(shown >= MOST, "{folder}: {shown} of {PICTURES}");
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
    let dir = tempfile::tempdir().unwrap();
    let plain = [nouns(), tinted()].concat();
    let plain = draw(dir.path(), &borrowed(&plain), None, 0);
    let [plain_dog, plain_bear, blue_dog, purple_bear] = plain.try_into().unwrap();
    let cases = [
        ("the class", plain_dog, dog),
        ("the class in the subject's tint", blue_dog, dog),
        ("a variant of the class", photos("poodle"), dog),
        ("the other subject", photos(panda), dog),
        ("another thing of this tint", photos("blue-hut"), dog),
        ("the class", plain_bear, panda),
        ("the class in the subject's tint", purple_bear, panda),
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
