//! The prompts of a subject: those that it is learned with, and those that it will be asked for in.

use super::gram::{Seen, Word};
use crate::index::{Scope, Subject};
use crate::prompt::{Marks, PromptSpec, article};
use crate::{Pipeline, Result};

/// The prompts of a subject and of its class.
pub(crate) fn prompts(subject: &Subject) -> [String; 2] {
    [&subject.to_string(), &subject.noun]
        .map(|words| format!("a photo of {} {words}", article(words)))
}

/// What may bind badly in this model, a sentence for each: all of it is allowed.
///
/// # Errors
/// If the token cannot be split into tokens.
pub(super) fn risks(pipeline: &Pipeline, subject: &Subject) -> Result<Vec<String>> {
    let tokens = pipeline.tokenizer().tokenize(&subject.token)?.len();
    let of_several = format!(
        "`{}` is {tokens} tokens to this model: an identifier of one token binds better",
        subject.token
    );
    let of_several = (tokens != 1).then_some(of_several);
    let others = Subject::risks(&[subject]);
    Ok(of_several.into_iter().chain(others).collect())
}

/// What a model is asked for: `{}` stands for the subject.
const TEMPLATES: [&str; 16] = [
    "a photo of a {}",
    "a picture of a {}",
    "an image of a {}",
    "a drawing of a {}",
    "a painting of a {}",
    "a {}",
    "a photo of a {} in a park",
    "a photo of a {} in the snow",
    "a photo of a {} in a room",
    "a photo of a {} on a street",
    "a {} in the snow",
    "a {} in a room",
    "a photo of a red {}",
    "a photo of a small {} and a big {}",
    "a photo of a {} and a cat",
    "a photo of a car and a {} in a park",
];

/// What the searched weights see of prompts with the subject, and with its class alone: all text as one, or with
/// [`Scope::Words`] each of the marked words of the subject.
pub(super) fn seen(
    pipeline: &Pipeline,
    (subject, marks): (&Subject, &Marks),
    scope: Scope,
) -> Result<Seen> {
    let prompts: Vec<PromptSpec> = [&subject.to_string(), &subject.noun]
        .iter()
        .flat_map(|phrase| {
            let fitted = format!("{} {phrase}", article(phrase));
            TEMPLATES.map(|t| t.replace("a {}", &fitted).replace("{}", phrase))
        })
        .chain([String::new()])
        .map(|text| marks.prompt(text))
        .collect();
    let context = pipeline.embed(&prompts)?;
    let width = context.embedding().dim(2)?;
    let embeddings: Vec<f32> = context.embedding().flatten_all()?.to_vec1()?;
    let (Scope::Words, [words]) = (scope, context.words()) else {
        return Seen::new(vec![Word::new(&embeddings, width)?]);
    };
    let marked: Vec<u8> = words.flatten_all()?.to_vec1()?;
    // The first prompt is the one that the subject is learned with: it has the words once.
    let first = &marked[..context.embedding().dim(1)?];
    let count = first.iter().filter(|m| **m != 0).count().max(1);
    let marked: Vec<&[f32]> = embeddings
        .chunks_exact(width)
        .zip(marked)
        .filter(|(_, word)| *word != 0)
        .map(|(token, _)| token)
        .collect();
    // The subject's words stand together wherever they stand: every so many tokens, its first.
    let word = |t: usize| {
        let tokens: Vec<f32> = marked
            .iter()
            .skip(t)
            .step_by(count)
            .flat_map(|token| token.iter().copied())
            .collect();
        Word::new(&tokens, width)
    };
    Seen::new((0..count).map(word).collect::<Result<_>>()?)
}
