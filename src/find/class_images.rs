//! Pictures of the class for the prior term of the loss: the user's, or the model's own, drawn once and kept.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use super::observer::{Event, Observer};
use super::prompts::prompts;
use crate::index::Subject;
use crate::pipeline::Drawn;
use crate::prompt::{PromptSpec, WeightedText};
use crate::{AttentionOptions, Error, Photos, Pipeline, Result, SampleOptions};

/// Where the pictures of the class come from.
#[derive(Debug, Clone, Default)]
pub enum ClassImages {
    /// Nowhere: the class's prompt cannot change.
    #[default]
    Needless,
    /// The user's.
    Given(Photos),
    /// The model draws them.
    Drawn(ClassCache),
}

/// Pictures of the class that the model draws unless told otherwise.
pub const CLASS_COUNT: usize = 20;

/// The model's own pictures of a class with seeds 0, 1, …, in a folder that says what they are.
///
/// Pictures that are there already are taken as they are, each is written when it is drawn, and a run that was
/// interrupted goes on where it was.
#[derive(Debug, Clone)]
pub struct ClassCache {
    beside: PathBuf,
    noun: String,
    /// What is drawn.
    pub prompt: String,
    count: usize,
    /// Naming it reads all weights.
    folder: OnceLock<PathBuf>,
}

/// Pictures of a class that have to be drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingImages<'a> {
    /// Where they are kept.
    pub folder: &'a Path,
    /// Their files in it.
    pub files: Vec<PathBuf>,
}

impl ClassCache {
    /// `count` pictures of a subject's class, kept in a folder in the folder of the file `beside`.
    pub fn new(subject: &Subject, count: usize, beside: &Path) -> Self {
        let [_, prompt] = prompts(subject);
        Self {
            beside: beside.to_owned(),
            noun: subject.noun.clone(),
            prompt,
            count,
            folder: OnceLock::new(),
        }
    }

    /// How many pictures there are to be.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// `class-images.dog.pocket-1a2b3c4d`: the last part is a hash of everything that the pictures depend on.
    ///
    /// # Errors
    /// If the prompt cannot be split into tokens.
    fn folder(&self, pipeline: &Pipeline) -> Result<&Path> {
        if let Some(known) = self.folder.get() {
            return Ok(known);
        }
        let options = pipeline.sample_options(&[]);
        let negative = options.negative.as_ref().map(WeightedText::text);
        let drawn_by = pipeline.identity(&[&self.prompt, negative.unwrap_or_default()])?;
        let all = format!("{drawn_by}\n{}\n{options:?}", self.prompt);
        let hash = crate::files::hex(&Sha256::digest(all)[..4]);
        let safe = |text: &str| {
            text.chars()
                .map(|c| if c.is_alphanumeric() { c } else { '-' })
                .collect::<String>()
        };
        let (noun, model) = (safe(&self.noun), safe(&pipeline.name));
        let folder = format!("class-images.{noun}.{model}-{hash}");
        Ok(self
            .folder
            .get_or_init(|| self.beside.with_file_name(folder)))
    }

    /// The files, whether they are there or not.
    ///
    /// # Errors
    /// As [`ClassCache::folder`].
    pub(crate) fn files(&self, pipeline: &Pipeline) -> Result<Vec<PathBuf>> {
        let folder = self.folder(pipeline)?;
        let file = |seed| folder.join(format!("seed-{seed:05}.png"));
        Ok((0..self.count).map(file).collect())
    }

    /// What has to be drawn.
    ///
    /// # Errors
    /// If the prompt cannot be split into tokens.
    pub fn missing(&self, pipeline: &Pipeline) -> Result<MissingImages<'_>> {
        let files = self.files(pipeline)?.into_iter();
        Ok(MissingImages {
            folder: self.folder(pipeline)?,
            files: files.filter(|file| !file.is_file()).collect(),
        })
    }

    /// Draws what is missing.
    pub(super) fn complete(&self, pipeline: &Pipeline, observer: &mut dyn Observer) -> Result<()> {
        let files = (0..).zip(self.files(pipeline)?);
        let missing: Vec<(u64, PathBuf)> = files.filter(|(_, file)| !file.is_file()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let folder = self.folder(pipeline)?;
        std::fs::create_dir_all(folder).map_err(Error::io("write class pictures into", folder))?;
        let options: SampleOptions = pipeline.sample_options(&[]);
        let seeds: Vec<u64> = missing.iter().map(|(seed, _)| *seed).collect();
        let mut left = missing.iter();
        pipeline.draw_each(
            self.prompt.as_str(),
            &options,
            &AttentionOptions::default(),
            &seeds,
            |progress| observer.event(Event::DrawingClass(progress)),
            |drawing| {
                let Some((seed, file)) = left.next() else {
                    return Ok(());
                };
                let drawn = Drawn {
                    pipeline,
                    prompt: &PromptSpec::from(&self.prompt),
                    strength: 1.0,
                    options: &options,
                    seed: *seed,
                    concepts: &[],
                    layers: None,
                    excited: &[],
                    init: None,
                    zoom: 1,
                    hashes: &[],
                };
                let metadata = drawn.metadata(&drawing.picture)?;
                drawing.picture.write(file, Some(&metadata))
            },
        )
    }
}
