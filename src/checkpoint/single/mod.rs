//! A whole model in one `.safetensors` file with the original names, read in place: its tensors under diffusers'
//! names, and the configuration files that diffusers has for it.

mod config;
mod family;
mod names;
mod vocabulary;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde_json::Value;

use self::config::Clip;
use self::family::{Family, Told};
use self::names::{Layout, Role, TEXT, TEXT_2, UNET, VAE, View};
use super::header::Header;
use super::tensors::{Bytes, Stored, TensorFile, twice};
use crate::sampling::Prediction;
use crate::{Error, Result};

/// What is said about a single file that is not in it, or better than what is.
pub(super) struct Said {
    pub(super) prediction: Option<Prediction>,
    /// An autoencoder in a file of its own.
    pub(super) vae: Option<TensorFile>,
    /// Whether all configuration files come from somewhere else.
    pub(super) configured: bool,
}

/// A single file.
pub(super) struct SingleFile {
    networks: BTreeMap<&'static str, TensorFile>,
    /// Configuration files by name.
    texts: BTreeMap<String, String>,
}

impl std::fmt::Debug for SingleFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SingleFile({:?})", self.networks.keys())
    }
}

impl SingleFile {
    /// Takes the tensors of a checkpoint apart; `label` is what errors call the file.
    ///
    /// # Errors
    /// If a tensor is unknown or of a type that is not supported, a network is missing, or nothing says what the UNet
    /// predicts.
    pub(super) fn new(bytes: Arc<Bytes>, header: &Header, label: &str, said: Said) -> Result<Self> {
        let mut networks = sort(&bytes, header, label)?;
        if let Some(vae) = said.vae {
            networks.insert(VAE, vae);
        }
        let family = Family::of(header);
        let texts: &[&str] = if family == Family::Xl {
            &[TEXT, TEXT_2]
        } else {
            &[TEXT]
        };
        for network in [UNET].iter().chain(texts).chain(&[VAE]) {
            let what = match *network {
                UNET => "UNet",
                VAE => "autoencoder (VAE)",
                _ => "text encoder",
            };
            if !networks.contains_key(network) {
                let hint = match *network {
                    VAE => {
                        "give an autoencoder of the same family beside it, a file or a folder of its own"
                    }
                    _ => "the file is of a part of a model: pass the whole one",
                };
                let found = format!("no {what} in it");
                return Err(Error::file(label, "a whole model", found, hint));
            }
        }
        let mut single = Self {
            networks,
            texts: BTreeMap::new(),
        };
        if !said.configured {
            single.configure(header, label, family, said.prediction)?;
        }
        Ok(single)
    }

    fn configure(
        &mut self,
        header: &Header,
        label: &str,
        family: Family,
        said: Option<Prediction>,
    ) -> Result<()> {
        let hint = "say what the model predicts: noise (epsilon) or velocity (v)";
        let refuse = |expected: &str, found: String, hint: &str| {
            Err(Error::file(label, expected, found, hint))
        };
        let prediction = match (
            said,
            family::prediction(family, header, &self.networks[UNET]),
        ) {
            (Some(prediction), _) | (None, Told::Prediction(prediction)) => prediction,
            (None, Told::Both(one, other)) => {
                return refuse("one prediction", family::about(&one, &other), hint);
            }
        };
        let mut pooled = 0;
        let texts: &[(&str, &str, Clip, &str)] = match family {
            Family::Sd1 => &[(TEXT, "tokenizer", Clip::Base, "<|endoftext|>")],
            Family::Sd2 => &[(TEXT, "tokenizer", Clip::Large, "!")],
            Family::Xl => &[
                (TEXT, "tokenizer", Clip::Base, "<|endoftext|>"),
                (TEXT_2, "tokenizer_2", Clip::Projected, "!"),
            ],
        };
        for &(network, tokenizer, clip, pad) in texts {
            let config = config::text(&self.networks[network], clip)?;
            let number = |key: &str| config[key].as_u64().unwrap_or(0) as usize;
            if number("vocab_size") != vocabulary::SIZE {
                let expected = format!("a text encoder of CLIP's {} tokens", vocabulary::SIZE);
                let hint = "pass the model's own folder, which has its vocabulary";
                return refuse(&expected, number("vocab_size").to_string(), hint);
            }
            pooled = number("projection_dim");
            let settings = config::tokenizer(number("max_position_embeddings"), pad);
            self.write(&format!("{tokenizer}/tokenizer_config.json"), &settings);
            self.write(&format!("{network}/config.json"), &config);
        }
        let unet = config::unet(&self.networks[UNET], family, prediction, pooled)?;
        self.write("unet/config.json", &unet);
        self.write(
            "vae/config.json",
            &config::vae(&self.networks[VAE], family)?,
        );
        let scheduler = config::scheduler(family, prediction, header.has("ztsnr"));
        self.write("scheduler/scheduler_config.json", &scheduler);
        self.write("model_index.json", &config::index(family));
        Ok(())
    }

    fn write(&mut self, file: &str, value: &Value) {
        self.texts.insert(file.to_owned(), value.to_string());
    }

    /// The text of a configuration or tokenizer file.
    pub(super) fn text(&self, file: &str) -> Option<String> {
        let tokenizer = |dir: &str| {
            self.texts
                .contains_key(&format!("{dir}/tokenizer_config.json"))
        };
        match file.split_once('/') {
            Some((dir, "vocab.json")) if tokenizer(dir) => Some(vocabulary::vocabulary()),
            Some((dir, "merges.txt")) if tokenizer(dir) => Some(vocabulary::merges()),
            _ => self.texts.get(file).cloned(),
        }
    }

    /// The weights of a network.
    pub(super) fn tensors(&self, network: &str) -> Option<&TensorFile> {
        self.networks.get(network)
    }
}

/// `scheduler_config.json` with another prediction.
///
/// # Errors
/// If the text is no JSON object.
pub(super) fn predicting(file: &str, text: &str, prediction: Prediction) -> Result<String> {
    let keys = crate::config::ConfigReader::parse(file, text)?;
    let entries = keys
        .entries()
        .map(|(key, value)| (key.to_owned(), value.clone()));
    let mut map: serde_json::Map<String, Value> = entries.collect();
    let value = config::prediction_type(prediction).into();
    map.insert("prediction_type".to_owned(), value);
    Ok(Value::Object(map).to_string())
}

/// The tensors of each network, under diffusers' names.
fn sort(
    bytes: &Arc<Bytes>,
    header: &Header,
    label: &str,
) -> Result<BTreeMap<&'static str, TensorFile>> {
    let layout = Layout::of(|name| header.has(name));
    let mut found: BTreeMap<&'static str, BTreeMap<String, Stored>> = BTreeMap::new();
    for (name, info) in &header.tensors {
        let (network, targets) = match layout.role(name) {
            Role::Unused => continue,
            Role::Unknown => {
                let found = format!(
                    "tensor `{}`, which is of none of their networks",
                    name.escape_debug()
                );
                let hint = "pass a plain checkpoint of one of these, without what other programs put into it";
                return Err(Error::file(
                    label,
                    "tensors of Stable Diffusion 1.x, 2.x and XL",
                    found,
                    hint,
                ));
            }
            Role::Weights(network, targets) => (network, targets),
        };
        add(
            found.entry(network).or_default(),
            (name, info),
            targets,
            header,
            label,
        )?;
    }
    let of = |(network, tensors)| (network, TensorFile::of(bytes.clone(), label, tensors));
    Ok(found.into_iter().map(of).collect())
}

/// The autoencoder in a file, which is its own or a whole checkpoint, with the original names or with diffusers'.
///
/// # Errors
/// If it is none.
pub(super) fn autoencoder(bytes: Arc<Bytes>, header: &Header, label: &str) -> Result<TensorFile> {
    let root = names::VAE_ROOTS
        .into_iter()
        .find(|root| header.starts(root))
        .unwrap_or("");
    if header.starts("encoder.down_blocks.") {
        return TensorFile::new(bytes, label, header);
    }
    let layout = Layout::of(|name| header.has(name));
    let mut found = BTreeMap::new();
    for (name, info) in &header.tensors {
        if layout.role(name) == Role::Unused {
            continue;
        }
        match name.strip_prefix(root).map(|rest| layout.vae(rest)) {
            None => {} // of a whole checkpoint, of which the autoencoder is wanted
            Some(Role::Weights(_, targets)) => {
                add(&mut found, (name, info), targets, header, label)?
            }
            _ => {
                let found = format!("tensor `{}`", name.escape_debug());
                let hint = "pass an autoencoder alone, of the family of the model";
                return Err(Error::file(
                    label,
                    "tensors of an autoencoder (VAE)",
                    found,
                    hint,
                ));
            }
        }
    }
    Ok(TensorFile::of(bytes, label, found))
}

/// Puts a tensor of the file where a network looks for it.
fn add(
    network: &mut BTreeMap<String, Stored>,
    (name, info): (&str, &TensorInfo),
    targets: Vec<(String, View)>,
    header: &Header,
    label: &str,
) -> Result<()> {
    let refuse = |expected: &str, found: String, hint: &str| {
        Error::file(label, expected, format!("tensor `{name}` of {found}"), hint)
    };
    if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
        let hint = "take the copy of the model in f32, f16 or bf16";
        return Err(refuse(
            "weights of F32, F16 or BF16",
            format!("{:?}", info.dtype),
            hint,
        ));
    }
    let (from, to) = info.data_offsets;
    let range = header.data_start + from..header.data_start + to;
    for (target, view) in targets {
        let shape = &info.shape[..];
        let wrong = |expected: &str| {
            let hint = "the file is damaged, or of another kind of model: fetch it again";
            refuse(expected, format!("shape {shape:?}"), hint)
        };
        let mut stored = Stored::new(name, shape.to_vec(), info.dtype, range.clone());
        match (view, shape) {
            (View::Whole, _) => {}
            (View::Squeezed, &[rows, columns, 1] | &[rows, columns, 1, 1]) => {
                stored.shape = vec![rows, columns];
            }
            (View::Squeezed, _) => {}
            (View::Transposed, &[rows, columns]) => {
                stored.shape = vec![columns, rows];
                stored.transposed = true;
            }
            (View::Transposed, _) => return Err(wrong("a matrix")),
            (View::Third(i), &[rows, ..]) if rows % 3 == 0 => {
                stored.shape[0] = rows / 3;
                let length = range.len() / 3;
                stored.range = range.start + i * length..range.start + (i + 1) * length;
            }
            (View::Third(_), _) => return Err(wrong("three equal parts, by rows")),
        }
        if let Some(other) = network.insert(target, stored) {
            return Err(twice(label, name, &other.name));
        }
    }
    Ok(())
}

/// What errors call a single file: its name, without the folders that it is in.
pub(super) fn label(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests;
