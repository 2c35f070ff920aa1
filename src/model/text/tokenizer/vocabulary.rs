//! The tokens and merges of a tokenizer: of `tokenizer.json`, or of `vocab.json` and `merges.txt`. Both are foreign
//! files: what CLIP's do not have is refused by name, and nothing is built before everything is checked.

use serde_json::{Map, Value, json};
use tokenizers::models::bpe::Vocab;

use crate::checkpoint::{Source, within};
use crate::config::ConfigReader;
use crate::{Error, Result};

/// What ends the last token of each word.
pub(in crate::model) const END_OF_WORD: &str = "</w>";

/// No text encoder has more tokens, and the library counts on from the largest id.
const LARGEST_ID: u64 = (1 << 20) - 1;

/// Token ids by text, and which two neighbours become one, the first merge first.
pub(in crate::model) struct Vocabulary {
    pub(in crate::model) ids: Vocab,
    pub(in crate::model) merges: Vec<(String, String)>,
}

impl Vocabulary {
    /// The `model` of `tokenizer.json`. transformers' `CLIPTokenizer` takes its vocabulary and merges alone; what would
    /// make other words of them is refused.
    pub(in crate::model) fn of_json(
        source: &Source,
        file: &str,
        mut model: ConfigReader,
    ) -> Result<Self> {
        model.only("type", &[json!("BPE")])?;
        let suffix = model.take("end_of_word_suffix").unwrap_or(Value::Null);
        if suffix != END_OF_WORD {
            return Err(model.error("end_of_word_suffix", json!(END_OF_WORD).to_string(), suffix));
        }
        model.only("continuing_subword_prefix", &[Value::Null, json!("")])?;
        model.only("dropout", &[Value::Null, json!(0)])?;
        for flag in ["byte_fallback", "fuse_unk", "ignore_merges"] {
            model.only(flag, &[Value::Null, json!(false)])?;
        }
        model.ignore(&["unk_token"]); // that of tokenizer_config.json holds
        let ids = match model.take("vocab") {
            Some(Value::Object(ids)) => ids,
            other => {
                let found = other.map_or("nothing", kind);
                return Err(malformed(
                    source,
                    file,
                    &format!("its vocabulary is {found}"),
                ));
            }
        };
        let merges = match model.take("merges") {
            Some(Value::Array(merges)) => merges,
            other => {
                let found = other.map_or("nothing", kind);
                return Err(malformed(
                    source,
                    file,
                    &format!("its list of merges is {found}"),
                ));
            }
        };
        model.finish()?;
        let merges = merges.into_iter().map(pair).collect();
        Self::checked(source, (file, ids), (file, merges))
    }

    /// The vocabulary of the files of 2022.
    pub(in crate::model) fn of_files(source: &Source, dir: &str) -> Result<Self> {
        let [ids_file, merges_file] = ["vocab.json", "merges.txt"].map(|file| within(dir, file));
        let text = |file: &str| {
            source.text(file)?.ok_or_else(|| Error::Model {
                model: source.name().to_owned(),
                problem: format!("no `{file}`, and no `{}`", within(dir, "tokenizer.json")),
                hint: format!("the model is not complete: fetch `{dir}` again"),
            })
        };
        let ids: Map<String, Value> = serde_json::from_str(&text(&ids_file)?)
            .map_err(|error| malformed(source, &ids_file, &error.to_string()))?;
        let merges = text(&merges_file)?
            .lines()
            .filter(|line| !line.starts_with("#version") && !line.trim().is_empty())
            .map(|line| pair(line.into()))
            .collect();
        Self::checked(source, (&ids_file, ids), (&merges_file, merges))
    }

    fn checked(
        source: &Source,
        (ids_file, ids): (&str, Map<String, Value>),
        (merges_file, pairs): (&str, Vec<Option<(String, String)>>),
    ) -> Result<Self> {
        let ids: Vocab = ids
            .into_iter()
            .map(|(token, id)| match id.as_u64() {
                Some(n) if n <= LARGEST_ID => Ok((token, n as u32)),
                _ => {
                    let problem =
                        format!("the id of {token:?} is {id}, not one of 0 to {LARGEST_ID}");
                    Err(malformed(source, ids_file, &problem))
                }
            })
            .collect::<Result<_>>()?;
        let mut merges = Vec::with_capacity(pairs.len());
        for (i, pair) in pairs.into_iter().enumerate() {
            let wrong = |problem: &str| {
                let problem = format!("merge {} {problem}", i + 1);
                malformed(source, merges_file, &problem)
            };
            let (a, b) = pair.ok_or_else(|| wrong("is not two tokens"))?;
            let whole = format!("{a}{b}");
            if let Some(token) = [&a, &b, &whole].into_iter().find(|t| !ids.contains_key(*t)) {
                return Err(wrong(&format!(
                    "has {token:?}, which is not in the vocabulary"
                )));
            }
            merges.push((a, b));
        }
        Ok(Self { ids, merges })
    }
}

/// A merge: `"a b"`, or `["a", "b"]` as newer files have it.
fn pair(merge: Value) -> Option<(String, String)> {
    match merge {
        Value::String(line) => {
            let (a, b) = line.split_once(' ')?;
            (!b.contains(' ')).then(|| (a.to_owned(), b.to_owned()))
        }
        both => serde_json::from_value(both).ok(),
    }
}

fn kind(value: Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A file, or a folder of files, that is not what a CLIP tokenizer has there.
pub(in crate::model) fn malformed(source: &Source, file: &str, problem: &str) -> Error {
    Error::Model {
        model: source.name().to_owned(),
        problem: format!("`{file}` is not a CLIP tokenizer's: {problem}"),
        hint: "the file may be damaged or of another model: fetch it again".to_owned(),
    }
}
