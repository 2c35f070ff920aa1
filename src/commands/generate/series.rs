//! A series of pictures that is stopped or killed and goes on: which of them are there already.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use cones::find::Record;
use cones::{Error, file_sha256};
use serde::{Deserialize, Serialize};

use super::super::unfinished::Unfinished;
use super::attention::{Heat, heat_path};
use super::pictures::Drawing;
use crate::cli::GenerateArgs;
use crate::report::ui::Ui;

/// The pictures of a run, and what is kept of which of them are drawn. A single picture is there or not.
pub(super) struct Series<'a> {
    unfinished: Option<Unfinished<'a>>,
    drawn: BTreeMap<usize, Entry>,
    count: usize,
}

/// A picture that was written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    sha256: String,
    /// Of each word.
    heat: Vec<HeatEntry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeatEntry {
    sha256: String,
    low: f32,
    high: f32,
}

impl<'a> Series<'a> {
    /// Takes up a series that was stopped: a picture counts as drawn if it was written then and is still the same.
    ///
    /// # Errors
    /// As [`Unfinished::open`].
    pub(super) fn open(
        ui: &'a Ui,
        args: &GenerateArgs,
        pictures: &[Drawing],
        plan: impl FnOnce() -> anyhow::Result<Record>,
    ) -> anyhow::Result<Self> {
        let count = pictures.len();
        let mut series = Self {
            unfinished: None,
            drawn: BTreeMap::new(),
            count,
        };
        if count == 1 {
            return Ok(series);
        }
        /// Of a picture and its maps, in the file.
        const MOST: usize = 200;
        let most = 1000 + count * (1 + args.heatmap.len()) * MOST;
        let (unfinished, kept) =
            Unfinished::open(ui, &args.output, plan()?, args.restart, most as u64)?;
        if let Some(kept) = kept {
            let drawn: BTreeMap<usize, Entry> = serde_json::from_slice(&kept.contents)
                .context("the unfinished series is damaged: begin again with `--restart`")?;
            let is_there = |at: usize, entry: &Entry| {
                let picture = pictures.get(at);
                picture.is_some_and(|picture| entry.is_at(&picture.path, &args.heatmap))
            };
            let drawn = drawn.into_iter().filter(|(at, entry)| is_there(*at, entry));
            series.drawn = drawn.collect();
            ui.note(&format!("going on at {}", series.done()));
        }
        series.unfinished = Some(unfinished);
        Ok(series)
    }

    /// `picture 5 of 60`.
    fn done(&self) -> String {
        format!("picture {} of {}", self.drawn.len(), self.count)
    }

    /// Whether a picture has to be drawn.
    pub(super) fn lacks(&self, at: usize) -> bool {
        !self.drawn.contains_key(&at)
    }

    /// Takes note that a picture was written.
    pub(super) fn add(&mut self, at: usize, path: &Path, heat: &[Heat]) {
        // What cannot be read again is drawn again.
        let Some(entry) = self
            .unfinished
            .as_ref()
            .and_then(|_| Entry::of(path, heat).ok())
        else {
            return;
        };
        self.drawn.insert(at, entry);
        self.keep(false);
    }

    fn keep(&mut self, ending: bool) {
        let done = self.done();
        if let Some(unfinished) = &mut self.unfinished
            && let Ok(contents) = serde_json::to_vec(&self.drawn)
        {
            unfinished.keep(done, ending, move |out: &mut dyn Write| {
                out.write_all(&contents)
            });
        }
    }

    /// The maps of the pictures that are there, as they were drawn.
    pub(super) fn heat(&self, at: usize, path: &Path, words: &[String]) -> Vec<Heat> {
        let entry = self.drawn.get(&at);
        let maps = words
            .iter()
            .zip(entry.into_iter().flat_map(|entry| &entry.heat));
        maps.map(|(word, map)| Heat::new(word, heat_path(path, word), (map.low, map.high)))
            .collect()
    }

    /// Ends the series, complete or not.
    pub(super) fn end(mut self, complete: bool) {
        if !complete && !self.drawn.is_empty() {
            self.keep(true);
        }
        if let Some(unfinished) = self.unfinished {
            unfinished.finish_unless(!complete);
        }
    }
}

impl Entry {
    fn of(path: &Path, heat: &[Heat]) -> Result<Self, Error> {
        let heat = heat.iter().map(|map| {
            let (low, high) = map.range();
            Ok(HeatEntry {
                sha256: file_sha256(map.path())?,
                low,
                high,
            })
        });
        Ok(Self {
            sha256: file_sha256(path)?,
            heat: heat.collect::<Result<_, Error>>()?,
        })
    }

    /// Whether these files are there, of these words.
    fn is_at(&self, path: &Path, words: &[String]) -> bool {
        let is = |path: &Path, sha256: &str| file_sha256(path).is_ok_and(|found| found == sha256);
        let maps = words.iter().map(|word| heat_path(path, word));
        is(path, &self.sha256)
            && self.heat.len() == words.len()
            && self
                .heat
                .iter()
                .zip(maps)
                .all(|(map, path)| is(&path, &map.sha256))
    }
}
