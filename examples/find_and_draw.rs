//! Finds a subject in photos of it and draws it somewhere else, through the library alone.
//!
//!     cargo run --release --example find_and_draw -- examples/pocket/subjects/blue-guide-dog dog "a photo in the snow"

use anyhow::{Context, Result};
use candle_core::Device;
use cones::checkpoint::Source;
use cones::find::{ClassImages, Event, FindPlan, Method, find};
use cones::index::Subject;
use cones::pipeline::{Concept, ShutOptions};
use cones::{Photos, Pipeline, list_images};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, noun, prompt] = arguments.as_slice() else {
        anyhow::bail!("usage: find_and_draw FOLDER NOUN PROMPT");
    };
    let mut pipeline = Pipeline::load(&Source::open("pocket")?, &Device::Cpu, None)?;
    let photos = list_images(&[folder.into()])?.read(Photos::KEEP, |_, _| Ok(()))?;

    // Photos to neurons.
    let plan = FindPlan {
        subject: Subject {
            noun: noun.clone(),
            token: "sks".to_owned(),
        },
        method: Method::default(),
        class: ClassImages::default(),
    };
    let found = find(&mut pipeline, plan, photos, &mut |event: Event| {
        if let Event::Step { step, total } = event
            && (step.step + 1).is_multiple_of(50)
        {
            eprintln!("step {} of {total}: loss {:.4}", step.step + 1, step.loss);
        }
        Ok(())
    })?;
    let index = &found.index;
    let extent = index.extent();
    eprintln!("{} of {} neurons shut", extent.shut, extent.total);
    index.write("found.idx".as_ref())?;

    // The subject where the prompt puts it: with its neurons shut.
    let concepts = [Concept::new("found", found.index)];
    let shut = pipeline.shut(&[&concepts[0].index], ShutOptions::default())?;
    let prompt = Concept::place(prompt, &concepts, &shut.marks);
    let options = pipeline.sample_options(&concepts);
    let pictures = pipeline.draw(&prompt, &options, &[0], |_| Ok(()))?;
    let picture = pictures.first().context("no picture was drawn")?;
    picture.write("found.png".as_ref(), None)?;
    eprintln!("found.png: {}", prompt.weighted);
    Ok(())
}
