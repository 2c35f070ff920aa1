//! Folders whose shards lie, and variants that are not there.

use super::*;

#[test]
fn shards_that_lie() {
    let whole = published::assemble("sd15", &published::cases()["sd15"]);
    let file = NETWORKS[0].1;
    let dir = tempfile::tempdir().unwrap();
    let (unet, index) = (
        dir.path().join("unet"),
        "diffusion_pytorch_model.safetensors.index.json",
    );
    published::copy(whole.path(), dir.path());
    let all = candle_core::safetensors::load(dir.path().join(file), &Device::Cpu).unwrap();
    let all: BTreeMap<String, Tensor> = all.into_iter().collect();
    fs::rename(
        dir.path().join(file),
        dir.path().join("outside.safetensors"),
    )
    .unwrap();
    write(&unet.join("all.safetensors"), &all, DType::F32, &[]);
    let part = all
        .iter()
        .take(3)
        .map(|(name, tensor)| (name.clone(), tensor.clone()))
        .collect();
    write(&unet.join("part.safetensors"), &part, DType::F32, &[]);
    fs::create_dir(unet.join("folder.safetensors")).unwrap();
    fs::write(
        unet.join("lfs.safetensors"),
        "version https://git-lfs.github.com/spec/v1\n",
    )
    .unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("loop.safetensors", unet.join("loop.safetensors")).unwrap();
    let (first, last) = (all.keys().next().unwrap(), all.keys().next_back().unwrap());
    let map = |file: &str| json!({"weight_map": {first: file}}).to_string();
    let outside = dir.path().join("outside.safetensors").display().to_string();
    #[rustfmt::skip]
    let rows: Vec<(String, &str, &str)> = vec![
        (map("../outside.safetensors"), "\"../outside.safetensors\" in it, which is no file of this folder",
         "one place"),
        (map(&outside), "which is no file of this folder", "one place"),
        (map("a\\..\\b.safetensors"), "which is no file of this folder", "one place"),
        (map("C:x.safetensors"), "which is no file of this folder", "one place"),
        (map(index), "which is no file of this folder", "one place"),
        (map("weights.bin"), "which is no file of this folder", "one place"),
        (map("missing-00002-of-00003.safetensors"), "`missing-00002-of-00003.safetensors` in it, which is not there",
         "that are missing"),
        (map("folder.safetensors"), "found a folder", "disk"),
        (map("lfs.safetensors"), "a Git LFS pointer", "git lfs pull"),
        (json!({"weight_map": {last: "part.safetensors"}}).to_string(), "found no such tensor", "together again"),
        (json!({"weight_map": {first: "part.safetensors", last: "all.safetensors"}}).to_string(), "each tensor once",
         "fetch it again"),
        (json!({"weight_map": {first: "part.safetensors"}}).to_string(), "no such tensor", "together again"),
        (json!({"weight_map": {}}).to_string(), "no tensors in it", "fetch it again"),
        (json!({"weight_map": {first: 3}}).to_string(), "a value of another type", "fetch the file again"),
        (json!({}).to_string(), "`weight_map`: expected a value", "fetch the file again"),
        ("[]".to_owned(), "a JSON object", "fetch it again"),
        ("{".to_owned(), "JSON that ends in the middle", "fetch it again"),
        (" ".repeat(5 << 20), "5242880 bytes, which is longer than any model's", "fetch it again"),
    ];
    let load = |what: &str| refused(dir.path(), &OpenOptions::default(), what);
    for (text, what, hint) in rows {
        fs::write(unet.join(index), text).unwrap();
        let (error, found) = load(what);
        assert!(
            error.contains(what) && found.contains(hint),
            "{what}: {error}: {found}"
        );
        assert!(error.contains("unet/"), "{what}: {error}");
    }
    #[cfg(unix)]
    {
        fs::write(unet.join(index), map("loop.safetensors")).unwrap();
        let options = OpenOptions::default();
        let source = options.open(dir.path().to_str().unwrap()).unwrap();
        let error = Pipeline::load(&source, &Device::Cpu, None)
            .map(drop)
            .unwrap_err();
        assert!(error.to_string().contains("loop.safetensors"), "{error}");
    }
    fs::remove_file(unet.join(index)).unwrap();
    let shard = unet.join("diffusion_pytorch_model-00001-of-00002.safetensors");
    fs::write(shard, "").unwrap();
    let (error, _) = load("no index");
    assert!(
        error.contains("one of several files, without their index"),
        "{error}"
    );
}

#[test]
fn variants_and_what_is_not_for_a_folder() {
    let whole = published::assemble("sd15", &published::cases()["sd15"]);
    let dir = tempfile::tempdir().unwrap();
    published::copy(whole.path(), dir.path());
    let unet = dir.path().join("unet");
    let plain = unet.join("diffusion_pytorch_model.safetensors");
    let named = |name: &str| unet.join(format!("diffusion_pytorch_model.{name}.safetensors"));
    let options = |variant: &str| OpenOptions {
        variant: Some(variant.to_owned()),
        ..OpenOptions::default()
    };
    let load = |options: &OpenOptions| {
        let source = options.open(dir.path().to_str().unwrap()).unwrap();
        Pipeline::load(&source, &Device::Cpu, None)
    };
    let all: BTreeMap<String, Tensor> = candle_core::safetensors::load(&plain, &Device::Cpu)
        .unwrap()
        .into_iter()
        .collect();
    let (error, hint) = refused(dir.path(), &options("fp16"), "no variants");
    assert!(
        error.contains("variant `fp16`") && hint.contains("no variants"),
        "{error}: {hint}"
    );
    let negative = all
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.neg().unwrap()))
        .collect();
    write(&named("non_ema"), &negative, DType::F32, &[]);
    let fingerprint = |options: &OpenOptions| load(options).unwrap().fingerprint().unwrap();
    let (first, other) = (
        fingerprint(&OpenOptions::default()),
        fingerprint(&options("non_ema")),
    );
    assert_ne!(first, other, "the variant is another network");
    let (error, hint) = refused(dir.path(), &options("bf16"), "another variant");
    assert!(
        error.contains("variant `bf16`") && hint.contains("`non_ema`"),
        "{error}: {hint}"
    );
    fs::remove_file(&plain).unwrap();
    assert_eq!(fingerprint(&OpenOptions::default()), other, "the only one");
    write(&named("ema_only"), &all, DType::F32, &[]);
    let (error, hint) = refused(dir.path(), &OpenOptions::default(), "two variants");
    assert!(
        error.contains("`ema_only`, `non_ema`") && hint.contains("which variant"),
        "{error}: {hint}"
    );
    write(&named("fp16"), &all, DType::F16, &[]);
    assert_eq!(
        load(&OpenOptions::default())
            .unwrap()
            .fingerprint()
            .unwrap()
            .len(),
        64
    );

    let vae = OpenOptions {
        vae: Some(dir.path().join("vae")),
        ..OpenOptions::default()
    };
    for model in [dir.path(), Path::new("pocket")] {
        let (error, hint) = refused(model, &vae, "no single file");
        assert!(
            error.contains("no single file") && hint.contains("single `.safetensors` file"),
            "{error}: {hint}"
        );
    }
}
