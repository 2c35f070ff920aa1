//! What a picture says of how it was drawn.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use cones::{Texts, escaped};
use serde_json::{Value, json};

use super::super::name;

/// A picture's texts.
pub(super) struct Drawn {
    path: PathBuf,
    parameters: Option<String>,
    cones: Value,
}

impl Drawn {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let Texts { parameters, cones } = cones::read_metadata(path)?;
        let damaged = || format!("the text of picture `{}` is damaged", name(path));
        let cones = cones.map(|text| serde_json::from_str(&text).with_context(damaged));
        Ok(Self {
            path: path.to_owned(),
            parameters,
            cones: cones.transpose()?.unwrap_or_default(),
        })
    }

    pub(super) fn json(&self) -> Value {
        json!({"picture": name(&self.path), "cones": self.cones, "parameters": self.parameters})
    }

    /// What `cones` knows of it, a line each; of pictures of other programs what the A1111 web UI would.
    pub(super) fn describe(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "{}", escaped(&name(&self.path)))?;
        match (&self.cones, &self.parameters) {
            (Value::Object(known), _) => {
                for (key, value) in known {
                    let said = match value {
                        Value::Null => continue,
                        Value::String(said) => said.clone(),
                        Value::Array(list) if list.is_empty() => continue,
                        Value::Array(list) => list.iter().map(one).collect::<Vec<_>>().join(", "),
                        other => one(other),
                    };
                    if !said.is_empty() {
                        writeln!(text, "  {key:<13} {}", escaped(&said))?;
                    }
                }
            }
            (_, Some(parameters)) => {
                for line in parameters.lines() {
                    writeln!(text, "  {}", escaped(line))?;
                }
            }
            _ => writeln!(text, "  says nothing of how it was drawn")?,
        }
        writeln!(text)
    }
}

/// `dog@1a2b3c4d5e` of a concept; else as it is.
fn one(value: &Value) -> String {
    match (value["name"].as_str(), value["sha256"].as_str()) {
        (Some(name), Some(hash)) => format!("{name}@{}", hash.get(..10).unwrap_or(hash)),
        _ => value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned),
    }
}
