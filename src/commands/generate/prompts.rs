//! The prompts of `cones generate`: one, or those of a file.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use cones::Pipeline;
use cones::pipeline::Concept;
use cones::prompt::{Marks, PromptSpec, WeightedText};

use super::super::{Advice, name};
use crate::cli::GenerateArgs;
use crate::report::ui::Ui;

/// Stands for stdin.
const STDIN: &str = "-";

/// What was asked for, each with its weights; and what to steer away from.
pub(super) struct Prompts {
    pub(super) each: Vec<WeightedText>,
    pub(super) negative: Option<WeightedText>,
}

/// The prompts as the user gave them.
///
/// # Errors
/// If a file cannot be read or has none, a weight is no number, or a prompt names what is not read.
pub(super) fn read(args: &GenerateArgs) -> anyhow::Result<Prompts> {
    let each = match (&args.prompt, &args.prompts) {
        (Some(prompt), None) if prompt != STDIN => vec![weighted(prompt, args)?],
        (_, file) => {
            let file = file.as_deref().unwrap_or(Path::new(STDIN));
            lines(file)?
                .iter()
                .map(|line| weighted(line, args))
                .collect::<anyhow::Result<_>>()?
        }
    };
    let negative = args.negative.as_deref().map(|text| weighted(text, args));
    let negative = negative.transpose().context("--negative-prompt")?;
    Ok(Prompts { each, negative })
}

/// The lines of a file, without those that begin with `#` and empty ones.
fn lines(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = if file == Path::new(STDIN) {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.with_context(|| format!("--prompts: cannot read `{}`", name(file)))?;
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    match lines.is_empty() {
        true => bail!(
            "--prompts: expected a prompt on each line of `{}`, found none",
            name(file)
        ),
        false => Ok(lines),
    }
}

fn weighted(prompt: &str, args: &GenerateArgs) -> anyhow::Result<WeightedText> {
    if args.no_weights {
        return Ok(prompt.into());
    }
    refuse_networks(prompt)?;
    Ok(prompt.parse()?)
}

/// That a prompt asks for no weights from other files: other programs take these names for such.
fn refuse_networks(prompt: &str) -> anyhow::Result<()> {
    for (kind, called) in [
        ("lora", "LoRA"),
        ("lyco", "LyCORIS"),
        ("hypernet", "hypernetwork"),
    ] {
        let Some(at) = prompt.find(&format!("<{kind}:")) else {
            continue;
        };
        let end = prompt[at..]
            .find('>')
            .map_or(prompt.len(), |end| at + end + 1);
        return Err(Advice::error(
            format!(
                "prompt: expected words, found `{}`: a {called} is not read here",
                &prompt[at..end]
            ),
            "leave it out, or put it into the model first (in diffusers `load_lora_weights`, `fuse_lora` and \
             `save_pretrained`) and give that with --model; --no-weights takes it as text",
        ));
    }
    if let Some(at) = prompt.find("embedding:") {
        let named = prompt[at..]
            .split([' ', ',', ')'])
            .next()
            .unwrap_or_default();
        return Err(Advice::error(
            format!(
                "prompt: expected words, found `{named}`: textual inversions are not read by name"
            ),
            "leave it out, or use a model whose tokenizer and text encoder hold it; --no-weights takes it as text",
        ));
    }
    Ok(())
}

/// The prompts with the subjects in them, as they are drawn. Says what was put in, what is missing, and what is cut.
///
/// # Errors
/// If a prompt cannot be split into tokens.
pub(super) fn placed(
    prompts: &Prompts,
    concepts: &[Concept],
    (marks, pipeline): (&Marks, &Pipeline),
    args: &GenerateArgs,
    ui: &Ui,
) -> anyhow::Result<Vec<PromptSpec>> {
    let (mut specs, mut cut) = (Vec::new(), Vec::new());
    for given in &prompts.each {
        let mut spec = match args.raw_prompt {
            true => PromptSpec {
                weighted: given.clone(),
                marks: marks.clone(),
                in_chunks: false,
            },
            false => Concept::place(given, concepts, marks),
        };
        spec.in_chunks = args.long_prompt;
        if spec.weighted.text() != given.text() {
            ui.note(&format!("prompt: {}", spec.weighted));
        }
        let lost = pipeline.lost(&spec)?;
        for phrase in lost.phrases {
            ui.warn(&format!(
                "`{phrase}` is not in the prompt: its neurons are shut at these words only, so that they change \
                 nothing"
            ));
        }
        cut.extend(lost.cut);
        specs.push(spec);
    }
    if let Some(negative) = prompts.negative.as_ref().filter(|_| !args.long_prompt) {
        cut.extend(pipeline.lost(&negative.clone().into())?.cut);
    }
    for cut in cut {
        ui.warn(&format!(
            "a prompt does not fit into the model's text length: its last {} tokens are cut, \"{}\"; --long-prompt \
             takes all",
            cut.tokens, cut.text
        ));
    }
    Ok(specs)
}
