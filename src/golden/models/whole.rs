//! Whole runs: the scores of Algorithm 1, pictures, and files of another type.

use super::*;

#[test]
pub(crate) fn scores_of_algorithm_1_are_equal() {
    for name in MODELS {
        let mut golden = Golden::open(name);
        let photos = |which: &str| {
            let folder = golden_dir().join("photos").join(which);
            list_images(&[folder]).unwrap().files
        };
        let (subject, class) = (photos("subject"), photos("class"));
        for (case, settings) in golden.cases["find"].as_object().unwrap().clone() {
            let text = |key: &str| settings[key].as_str().unwrap();
            let prompts = [
                format!("a photo of a {} {}", text("token"), text("noun")),
                format!("a photo of a {}", text("noun")),
            ];
            let examples = |paths: &[PathBuf], prompt: &str| PromptedLatents {
                latents: paths
                    .iter()
                    .map(|p| {
                        golden
                            .pipeline
                            .latents(&Picture::read(p, golden.pipeline.size).unwrap())
                            .unwrap()
                    })
                    .collect(),
                context: golden.pipeline.embed(&[prompt.into()]).unwrap(),
            };
            let data = DreamBoothData {
                instance: examples(&subject, &prompts[0]),
                class: Some(examples(&class, &prompts[1])),
            };
            let options = Options {
                steps: settings["steps"].as_u64().unwrap() as usize,
                batch_sampling: BatchSampling::Pairs,
                rho: settings["rho"].as_f64().unwrap(),
                prior_loss_weight: settings["prior_weight"].as_f64().unwrap(),
                sites: text("sites").parse().unwrap(),
                scope: Scope::Prompt,
                seed: settings["seed"].as_u64().unwrap(),
                selection: Selection::Density(0.03),
                until_stable: None,
                shard: None,
            };
            let before = golden
                .pipeline
                .unet()
                .site_tensors(SiteSelection::All)
                .unwrap();
            let mut losses = Vec::new();
            let (unet, schedule) = golden.pipeline.unet_mut();
            let scores = algorithm1(unet, schedule, &data, &options, None, |at| {
                losses.push(at.step.loss);
                Ok(())
            })
            .unwrap();
            golden.sites_close(&format!("find.{case}."), &scores.scores);
            assert_eq!(losses.len(), options.steps, "{name}: {case}");
            for (got, want) in losses.iter().zip(settings["losses"].as_array().unwrap()) {
                loss_close(&format!("{name}: {case}"), *got, want.as_f64().unwrap());
            }
            if options.rho > 0.0 {
                // The generator states by how much rho moved the scores, so that this case proves something.
                assert!(
                    settings["changes_scores_by"].as_f64().unwrap() > 0.01,
                    "{name}: {case}"
                );
            }
            for (site, after) in golden
                .pipeline
                .unet()
                .site_tensors(SiteSelection::All)
                .unwrap()
            {
                assert_eq!(
                    values(&after),
                    values(&before[&site]),
                    "{name}: {case} changed {site}"
                );
            }
        }
    }
}

#[test]
pub(crate) fn whole_pictures_are_equal() {
    for name in MODELS {
        let mut golden = Golden::open(name);
        let original = golden
            .pipeline
            .unet()
            .site_tensors(SiteSelection::All)
            .unwrap();
        for (case, settings) in golden.cases["picture"].as_object().unwrap().clone() {
            if settings["shut"].as_bool().unwrap() {
                let (unet, _) = golden.pipeline.unet_mut();
                unet.set_site_weights(shut_plainly(name, &original))
                    .unwrap();
            }
            let number = |key: &str| settings[key].as_u64().unwrap();
            let options = SampleOptions {
                sampler: settings["sampler"].as_str().unwrap().parse().unwrap(),
                steps: number("steps") as usize,
                guidance: settings["guidance"].as_f64().unwrap(),
                negative: Some(settings["negative"].as_str().unwrap().into()),
                size: Some(Size::new(
                    number("width") as usize,
                    number("height") as usize,
                )),
                ..SampleOptions::default()
            };
            let seeds: Vec<u64> = settings["seeds"]
                .as_array()
                .unwrap()
                .iter()
                .map(|s| s.as_u64().unwrap())
                .collect();
            let prompt = settings["prompt"].as_str().unwrap();
            let pictures = golden
                .pipeline
                .draw(prompt, &options, &seeds, |_| Ok(()))
                .unwrap();
            let got: Vec<u8> = pictures.iter().flat_map(|p| p.rgb().to_vec()).collect();
            let want: Vec<u8> = golden
                .tensor(&format!("picture.{case}"))
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap();
            assert_eq!(got.len(), want.len(), "{name}: {case}");
            let differences = got.iter().zip(&want).map(|(g, w)| g.abs_diff(*w));
            let (at, worst) = differences.enumerate().max_by_key(|&(_, d)| d).unwrap();
            println!("{name}: {case}: worst pixel differs by {worst}");
            assert!(
                worst <= PIXEL,
                "{name}: {case}: value {at}: expected {}, got {}",
                want[at],
                got[at]
            );
            let (unet, _) = golden.pipeline.unet_mut();
            unet.set_site_weights(original.clone()).unwrap();
        }
    }
}

/// The weights of a model with the golden indices at zero, by way of plain indexing.
fn shut_plainly(name: &str, weights: &BTreeMap<Site, Tensor>) -> BTreeMap<Site, Tensor> {
    let file = golden_dir().join(format!("{name}.shut.safetensors"));
    let indices = candle_core::safetensors::load(file, &device()).unwrap();
    indices
        .iter()
        .map(|(name, indices)| {
            let site: Site = name.parse().unwrap();
            let mut values: Vec<f32> = weights[&site].flatten_all().unwrap().to_vec1().unwrap();
            for i in indices.to_vec1::<u32>().unwrap() {
                values[i as usize] = 0.0;
            }
            let weight = Tensor::from_vec(values, weights[&site].shape(), &device()).unwrap();
            (site, weight)
        })
        .collect()
}

/// A bf16 copy of a model is the model with rounded weights: every weight of every site, bit for bit.
#[test]
fn bf16_files_load() {
    let from = golden_dir().join("models/sd1-f32");
    let folder = tempfile::tempdir().unwrap();
    for entry in [
        "model_index.json",
        "scheduler",
        "text_encoder",
        "tokenizer",
        "unet",
        "vae",
    ] {
        copy(&from.join(entry), &folder.path().join(entry));
    }
    let load = |path: &Path| {
        let source = Source::open(&path.display().to_string()).unwrap();
        Pipeline::load(&source, &device(), None).unwrap()
    };
    let (full, rounded) = (load(&from), load(folder.path()));
    let found = rounded.unet().site_tensors(SiteSelection::All).unwrap();
    for (site, weight) in full.unet().site_tensors(SiteSelection::All).unwrap() {
        let expected = weight.to_dtype(DType::BF16).unwrap();
        let expected = expected.to_dtype(DType::F32).unwrap();
        assert_eq!(values(&found[&site]), values(&expected), "{site}");
        assert_ne!(values(&found[&site]), values(&weight), "{site}");
    }
}

/// Copies a file or folder, turning safetensors into bf16.
fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy(&from.join(&name), &to.join(&name));
        }
    } else if from.extension().is_some_and(|e| e == "safetensors") {
        let tensors: HashMap<String, Tensor> = candle_core::safetensors::load(from, &device())
            .unwrap()
            .into_iter()
            .map(|(name, t)| match t.dtype() {
                DType::F32 => (name, t.to_dtype(DType::BF16).unwrap()),
                _ => (name, t),
            })
            .collect();
        candle_core::safetensors::save(&tensors, to).unwrap();
    } else if from.exists() {
        std::fs::copy(from, to).unwrap();
    }
}
