//! Which of a tokenizer's files says what: the one home of this rule.
//!
//! It is the rule of transformers 5.24, with which diffusers 0.42 reads a `CLIPTokenizer`: `_from_pretrained` in
//! `tokenization_utils_base.py`, then `convert_to_native_format` and `__init__` in `tokenization_utils_tokenizers.py`,
//! then `__init__` in `models/clip/tokenization_clip.py`.
//!
//! 1. Vocabulary and merges are those of `tokenizer.json` where it is there, else of `vocab.json` and `merges.txt`. Of
//!    `tokenizer.json` count besides: its added tokens (rule 3), and the sides of its padding and truncation where
//!    `tokenizer_config.json` names none.
//! 2. Special tokens, lengths and sides stand in `tokenizer_config.json`. A token is a string, or an object that says
//!    `"__type": "AddedToken"`.
//! 3. A `tokenizer_config.json` with `added_tokens_decoder` (since 4.34) says everything; the tokens of other files are
//!    not looked at. Without it the files are "legacy", and each key of `special_tokens_map.json` stands in for the one
//!    of `tokenizer_config.json`; then tokens of `added_tokens.json` are added, and then those of `tokenizer.json`.
//! 4. A special token takes the form of the added token with its text. Then added tokens are known to the tokenizer in
//!    order of their ids, then the special tokens that are not among them, then the extra ones.
//!
//! transformers 4.57 agrees in rules 2 to 4. Its `CLIPTokenizer` is another program, though: it reads `vocab.json` and
//! `merges.txt` even where there is a `tokenizer.json`, and cleans text in its own way (control characters, accents,
//! Chinese characters), so that ids of unusual text differ. Its `CLIPTokenizerFast` is as here, but where two roles
//! give one text in two forms, the first form holds there and the last one here: with Stable Diffusion 1.x
//! `<|EndOfText|>` in a prompt is the end token there, and text here.

use serde_json::{Value, json};
use tokenizers::AddedToken;

use super::added::{AddedTokens, Token};
use super::vocabulary::Vocabulary;
use crate::Result;
use crate::checkpoint::{Source, within};
use crate::config::ConfigReader;

/// The special tokens by role, in the order in which they are added, and what they are where no file says.
const ROLES: [(&str, Option<&str>); 7] = [
    (START, Some("<|startoftext|>")),
    (END, Some("<|endoftext|>")),
    (UNKNOWN, Some("<|endoftext|>")),
    ("sep_token", None),
    (PAD, Some("<|endoftext|>")),
    ("cls_token", None),
    ("mask_token", None),
];

const START: &str = "bos_token";
const END: &str = "eos_token";
const UNKNOWN: &str = "unk_token";
const PAD: &str = "pad_token";

/// Where a text is cut or filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::model) enum Side {
    Left,
    Right,
}

/// What the files of a tokenizer say together.
pub(in crate::model) struct Files {
    pub(in crate::model) vocabulary: Vocabulary,
    pub(in crate::model) start: String,
    pub(in crate::model) end: String,
    pub(in crate::model) unknown: String,
    pub(in crate::model) pad: String,
    /// Tokens that are looked for before text is split, in the order in which they are added.
    pub(in crate::model) added: Vec<AddedToken>,
    pub(in crate::model) length: Option<usize>,
    pub(in crate::model) padding: Side,
    pub(in crate::model) truncation: Side,
    /// Whether special tokens in a text are text like any other.
    pub(in crate::model) split_special_tokens: bool,
}

impl Files {
    pub(in crate::model) fn read(source: &Source, dir: &str) -> Result<Self> {
        let json_file = within(dir, "tokenizer.json");
        let mut json = open(source, &json_file)?;
        let mut settings = Settings::read(source, dir)?;
        settings.refuse_other_sources()?;

        // What each role is said to be: nothing, null or a token.
        let mut given: Vec<Option<Option<Token>>> = Vec::new();
        for (role, _) in ROLES {
            given.push(settings.token(role)?);
        }
        let (extra, late) = settings.extra()?;
        let mut added = AddedTokens::default();
        match settings.decoder.take() {
            Some(decoder) => added.of_decoder(&settings.config, decoder)?,
            None => {
                if let Some(file) = open(source, &within(dir, "added_tokens.json"))? {
                    let special = given.iter().flatten().flatten().chain(&extra);
                    let special: Vec<&str> = special.map(Token::content).collect();
                    added.of_added_tokens(&file, &special)?;
                }
                if let Some(json) = &mut json {
                    added.of_json(json)?;
                }
            }
        }

        let mut roles: Vec<(&str, Token)> = Vec::new();
        for ((role, default), given) in ROLES.into_iter().zip(given) {
            let token = match given {
                Some(token) => token.map(|token| added.form_of(token)),
                None => default.map(|text| Token::Text(text.to_owned())),
            };
            roles.extend(token.map(|token| (role, token)));
        }
        // Python makes "None" of no token, and there is no such token.
        let text = |role: &str| {
            let found = roles.iter().find(|(name, _)| *name == role);
            found
                .map_or("None", |(_, token)| token.content())
                .to_owned()
        };
        let [start, end, unknown, pad] = [START, END, UNKNOWN, PAD].map(text);
        Ok(Self {
            start,
            end,
            unknown,
            pad,
            added: added.with(
                roles.into_iter().map(|(_, token)| token).collect(),
                [extra, late].concat(),
            ),
            length: settings.length()?,
            padding: settings.side("padding_side", json.as_mut(), "padding")?,
            truncation: settings.side("truncation_side", json.as_mut(), "truncation")?,
            split_special_tokens: settings.flag("split_special_tokens")?,
            vocabulary: match json {
                Some(mut json) => Vocabulary::of_json(source, &json_file, json.section("model")?)?,
                None => Vocabulary::of_files(source, dir)?,
            },
        })
    }
}

fn open(source: &Source, file: &str) -> Result<Option<ConfigReader>> {
    let text = source.text(file)?;
    text.map(|text| ConfigReader::parse(file, &text))
        .transpose()
}

/// The keys of `tokenizer_config.json`, and those that stand in for them.
struct Settings {
    config: ConfigReader,
    map: Option<ConfigReader>,
    /// The config's `added_tokens_decoder`, null too; without it the other files are read.
    decoder: Option<Value>,
}

/// Which file a setting is from: that decides what form a token has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Config,
    Map,
}

impl Settings {
    fn read(source: &Source, dir: &str) -> Result<Self> {
        let file = within(dir, "tokenizer_config.json");
        let mut config = match open(source, &file)? {
            Some(config) => config,
            None => ConfigReader::parse(&file, "{}")?,
        };
        let decoder = config.take("added_tokens_decoder");
        let map = match decoder {
            Some(_) => None,
            None => open(source, &within(dir, "special_tokens_map.json"))?,
        };
        Ok(Self {
            config,
            map,
            decoder,
        })
    }

    /// What holds for `key`.
    fn take(&mut self, key: &str) -> Option<(Value, From)> {
        let config = self.config.take(key).map(|value| (value, From::Config));
        let map = self.map.as_mut().and_then(|map| map.take(key));
        map.map(|value| (value, From::Map)).or(config)
    }

    /// Refuses keys that say where else a vocabulary is, or name roles that CLIP's tokenizer has not.
    fn refuse_other_sources(&mut self) -> Result<()> {
        self.config.only("init_inputs", &[Value::Null, json!([])])?;
        self.config.only("vocab", &[Value::Null])?;
        self.config.only("merges", &[Value::Null])?;
        let plain = [Value::Null, json!([]), json!(["tokenizer.json"])];
        self.config.only("fast_tokenizer_files", &plain)?;
        for keys in [Some(&self.config), self.map.as_ref()]
            .into_iter()
            .flatten()
        {
            let other = keys.entries().find(|(key, value)| {
                let unknown = ROLES.iter().all(|(role, _)| role != key);
                key.ends_with("_token") && unknown && (value.is_string() || value.is_object())
            });
            if let Some((key, value)) = other {
                let known = ROLES.map(|(role, _)| role).join(", ");
                return Err(keys.error(key, format!("no special tokens but {known}"), value));
            }
        }
        Ok(())
    }

    /// The file that a setting is from.
    fn keys(&self, from: From) -> &ConfigReader {
        match (from, &self.map) {
            (From::Map, Some(map)) => map,
            _ => &self.config,
        }
    }

    /// The token of a role: nothing, null or a token. No text is without start, end and padding.
    fn token(&mut self, role: &str) -> Result<Option<Option<Token>>> {
        match self.take(role) {
            None => Ok(None),
            Some((Value::Null, _)) if ![START, END, PAD].contains(&role) => Ok(Some(None)),
            Some((value, from)) => Ok(Some(Some(self.parse(role, value, from)?))),
        }
    }

    fn parse(&self, key: &str, value: Value, from: From) -> Result<Token> {
        let (token, object) = match from {
            From::Config => (Token::typed(&value), "`__type` \"AddedToken\""),
            From::Map => (Token::special(&value), "`content`"),
        };
        let expected = format!("a token: a string, or an object with {object}");
        token.ok_or_else(|| self.keys(from).error(key, expected, value))
    }

    fn flag(&mut self, key: &str) -> Result<bool> {
        match self.take(key) {
            None | Some((Value::Null, _)) => Ok(false),
            Some((Value::Bool(flag), _)) => Ok(flag),
            Some((other, from)) => Err(self.keys(from).error(key, "true or false", other)),
        }
    }

    /// Special tokens without a role. They go by two names, of which the newer one holds; those that the map has under
    /// the older name come second, as they are not yet special when `added_tokens.json` is read.
    fn extra(&mut self) -> Result<(Vec<Token>, Vec<Token>)> {
        const NEW: &str = "extra_special_tokens";
        const OLD: &str = "additional_special_tokens";
        let empty = |value: &Value| value.is_null() || value == &json!([]);
        let (new, old) = (self.config.take(NEW), self.config.take(OLD));
        let (map_new, map_old) = match &mut self.map {
            Some(map) => (map.take(NEW), map.take(OLD)),
            None => (None, None),
        };
        let mut found = match (new, old) {
            (new, Some(old)) if new.as_ref().is_none_or(empty) => {
                Some(self.list(OLD, old, From::Config)?)
            }
            (Some(new), _) => Some(self.list(NEW, new, From::Config)?),
            (None, _) => None,
        };
        if let Some(more) = map_new {
            let list = found.get_or_insert_default();
            for token in self.list(NEW, more, From::Map)? {
                if !list.contains(&token) {
                    list.push(token);
                }
            }
        }
        match (found, map_old) {
            (None, Some(old)) => Ok((Vec::new(), self.list(OLD, old, From::Map)?)),
            (found, _) => Ok((found.unwrap_or_default(), Vec::new())),
        }
    }

    fn list(&self, key: &str, value: Value, from: From) -> Result<Vec<Token>> {
        match value {
            Value::Null => Ok(Vec::new()),
            Value::Array(tokens) => {
                let parsed = tokens.into_iter().map(|token| self.parse(key, token, from));
                parsed.collect()
            }
            other => Err(self.keys(from).error(key, "a list of tokens", other)),
        }
    }

    /// The most tokens of a text. transformers writes 1e30 for "no limit"; the text encoder's own limit holds then.
    fn length(&mut self) -> Result<Option<usize>> {
        let [newer, older] = ["model_max_length", "max_len"].map(|key| (key, self.take(key)));
        let (key, value, from) = match (newer, older) {
            ((key, Some((value, from))), _) | (_, (key, Some((value, from)))) => (key, value, from),
            _ => return Ok(None),
        };
        match value.as_f64() {
            None if value.is_null() => Ok(None),
            Some(length) if length >= 2.0 => Ok(Some(length.min(65536.0) as usize)),
            _ => Err(self.keys(from).error(key, "at least 2", value)),
        }
    }

    /// Where texts are cut or filled: what is said here, else in a section of `tokenizer.json`.
    fn side(&mut self, key: &str, json: Option<&mut ConfigReader>, section: &str) -> Result<Side> {
        let parse = |value: &Value| match value.as_str() {
            Some("left" | "Left") => Some(Side::Left),
            Some("right" | "Right") => Some(Side::Right),
            _ => None,
        };
        let expected = "\"left\" or \"right\"";
        if let Some((value, from)) = self.take(key) {
            return parse(&value).ok_or_else(|| self.keys(from).error(key, expected, value));
        }
        let mut section = match json {
            Some(json) => json.section(section)?,
            None => return Ok(Side::Right),
        };
        match section.take("direction") {
            None => Ok(Side::Right),
            Some(value) => parse(&value).ok_or_else(|| section.error("direction", expected, value)),
        }
    }
}
