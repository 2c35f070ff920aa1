//! Tokens that are looked for in a text before it is split into words: their forms, and in which order they are added.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;
use tokenizers::AddedToken;

use crate::Result;
use crate::config::ConfigReader;

/// A token as a file gives it: a text alone, or with its form. Two forms of one text are two tokens.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::model) enum Token {
    Text(String),
    Form(Form),
}

/// What Python's `AddedToken` holds.
#[derive(Debug, Clone)]
pub(in crate::model) struct Form {
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    /// Where no file says, a special token is looked for as it is, any other in the normalized text.
    normalized: Option<bool>,
    special: bool,
}

impl Form {
    /// An object with `content`; keys that `AddedToken` does not know are left out, as there.
    fn parse(value: &Value) -> Option<Self> {
        let content = value.get("content")?.as_str()?.to_owned();
        let flag = |key: &str| match value.get(key) {
            None => Some(None),
            Some(value) => value.as_bool().map(Some),
        };
        Some(Self {
            content,
            single_word: flag("single_word")?.unwrap_or(false),
            lstrip: flag("lstrip")?.unwrap_or(false),
            rstrip: flag("rstrip")?.unwrap_or(false),
            normalized: flag("normalized")?,
            special: flag("special")?.unwrap_or(false),
        })
    }

    fn resolved(&self) -> AddedToken {
        AddedToken {
            content: self.content.clone(),
            single_word: self.single_word,
            lstrip: self.lstrip,
            rstrip: self.rstrip,
            normalized: self.normalized.unwrap_or(!self.special),
            special: self.special,
        }
    }
}

impl PartialEq for Form {
    fn eq(&self, other: &Self) -> bool {
        self.resolved() == other.resolved()
    }
}

impl Token {
    /// As it stands in `tokenizer_config.json`.
    pub(in crate::model) fn typed(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Object(object) if object.get("__type")? == "AddedToken" => {
                Form::parse(value).map(Self::Form)
            }
            _ => None,
        }
    }

    /// As it stands in `special_tokens_map.json`.
    pub(in crate::model) fn special(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            _ => {
                let form = Form::parse(value)?;
                Some(Self::Form(Form {
                    special: true,
                    ..form
                }))
            }
        }
    }

    pub(in crate::model) fn content(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Form(form) => &form.content,
        }
    }
}

/// The tokens that files add beside those with a role, by id.
#[derive(Default)]
pub(in crate::model) struct AddedTokens {
    by_id: BTreeMap<u64, Form>,
    by_content: HashMap<String, Form>,
}

impl AddedTokens {
    fn insert(&mut self, id: u64, form: Form) {
        self.by_content.insert(form.content.clone(), form.clone());
        self.by_id.insert(id, form);
    }

    /// `added_tokens_decoder` of `tokenizer_config.json`: tokens by their ids.
    pub(in crate::model) fn of_decoder(
        &mut self,
        config: &ConfigReader,
        decoder: Value,
    ) -> Result<()> {
        const KEY: &str = "added_tokens_decoder";
        let expected = "an object of tokens by id";
        let Value::Object(tokens) = decoder else {
            return Err(config.error(KEY, expected, decoder));
        };
        for (id, value) in tokens {
            match (id.parse(), Form::parse(&value)) {
                (Ok(id), Some(form)) => self.insert(id, form),
                _ => return Err(config.error(KEY, expected, format!("{id:?}: {value}"))),
            }
        }
        Ok(())
    }

    /// `added_tokens.json`: ids by text.
    pub(in crate::model) fn of_added_tokens(
        &mut self,
        file: &ConfigReader,
        special: &[&str],
    ) -> Result<()> {
        for (content, value) in file.entries() {
            let id = value.as_u64();
            let id = id.ok_or_else(|| file.error(content, "the id of this token", value))?;
            let special = special.contains(&content);
            self.insert(
                id,
                Form {
                    content: content.to_owned(),
                    single_word: false,
                    lstrip: false,
                    rstrip: false,
                    normalized: Some(!special),
                    special,
                },
            );
        }
        Ok(())
    }

    /// `added_tokens` of `tokenizer.json`: a list of tokens with their ids.
    pub(in crate::model) fn of_json(&mut self, json: &mut ConfigReader) -> Result<()> {
        const KEY: &str = "added_tokens";
        let expected = "a list of tokens with `id` and `content`";
        let tokens = match json.take(KEY) {
            None => Vec::new(),
            Some(Value::Array(tokens)) => tokens,
            Some(other) => return Err(json.error(KEY, expected, other)),
        };
        for value in tokens {
            match (value.get("id").and_then(Value::as_u64), Form::parse(&value)) {
                (Some(id), Some(form)) => self.insert(id, form),
                _ => return Err(json.error(KEY, expected, value)),
            }
        }
        Ok(())
    }

    /// A token with a role, in the form that the files give to its text.
    pub(in crate::model) fn form_of(&self, token: Token) -> Token {
        match self.by_content.get(token.content()) {
            Some(form) => Token::Form(form.clone()),
            None => token,
        }
    }

    /// All tokens in the order in which they are added: these, those with a role, the extra ones. A text that comes
    /// again in another form takes that form.
    pub(in crate::model) fn with(self, roles: Vec<Token>, extra: Vec<Token>) -> Vec<AddedToken> {
        let with_a_role: Vec<String> = roles
            .iter()
            .map(|token| token.content().to_owned())
            .collect();
        let mut all: Vec<Token> = self.by_id.into_values().map(Token::Form).collect();
        let mut seen = HashSet::new();
        for token in roles.into_iter().chain(extra) {
            let form = match &token {
                Token::Text(text) => (text.clone(), None),
                Token::Form(form) => (form.content.clone(), Some(form.resolved())),
            };
            if !self.by_content.contains_key(token.content()) && seen.insert(form) {
                all.push(token);
            }
        }
        let added = all.into_iter().map(|token| match token {
            Token::Text(text) => AddedToken::from(text, true),
            Token::Form(mut form) => {
                form.special |= with_a_role.contains(&form.content);
                form.resolved()
            }
        });
        added.collect()
    }
}
